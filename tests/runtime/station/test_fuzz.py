"""Requests drawn from the OpenAPI document, right and wrong ones: none is a fault of the station's."""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path

import pytest
from station_fakes import FakeGenerator, catalogue, labelled, shelf
from station_films import film

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install schemathesis")

import schemathesis
from hypothesis import HealthCheck, given, settings
from starlette.types import Receive, Scope, Send

from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.service import Service
from medge.runtime.station.reading.intake import jobs_for
from medge.runtime.station.station import Station
from medge.runtime.station.store.objects import Space

EXAMPLES = 15  # of each endpoint
FOLDER = tempfile.TemporaryDirectory(prefix="medge-fuzz-")  # the routes are known when the tests are collected
STATION = Station.open(Path(FOLDER.name) / "station", space=Space(reserve=0, ballast=0))
atexit.register(FOLDER.cleanup)
atexit.register(STATION.close)
APP = create_app(
    Service(
        catalogue(),
        shelf(FakeGenerator('{"answer": "yes", "sources": []}'), labelled()),
        station=STATION,
        listening=0.05,
    ),
    hosts=frozenset({"localhost", "testserver"}),
)


async def lasting(scope: Scope, receive: Receive, send: Send) -> None:
    """The application, which does not end with a request's client."""
    if scope["type"] == "lifespan":
        for said in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{said}.complete"})
    else:
        await APP(scope, receive, send)


SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", lasting)


@schemathesis.serializer("multipart/related")
def as_part(context: object, value: object) -> bytes:
    """A body of one part; every other one is a DICOM file."""
    drawn = value if isinstance(value, bytes) else str(value).encode()
    return b"--b\r\n\r\n" + (drawn if len(drawn) % 2 else film(2, pixels=drawn[:16].ljust(16))) + b"\r\n--b--\r\n"


@SCHEMA.hook("map_path_parameters")
def known(context: schemathesis.HookContext, path_parameters: dict[str, object] | None) -> dict[str, object] | None:
    """Most paths lead to what the station holds."""
    if path_parameters and len(str(path_parameters.get("uid", ""))) % 4:
        got = STATION.put(film(1), who="fuzz", then=jobs_for)
        path_parameters["uid"] = got.instance.uid if "instances" in context.operation.path else "1.2.1.1"
    if path_parameters and len(str(path_parameters.get("number", ""))) % 4:
        STATION.put(film(1), who="fuzz", then=jobs_for)
        path_parameters["number"] = STATION.queue.list(limit=1)[0].id
    return path_parameters


OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}


# Not by the schema's own `parametrize`: its items share one name, and a run in several processes does one of them.
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_request_is_a_fault_of_the_stations(name: str) -> None:
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=OPERATIONS[name].as_strategy())
    def answered(case: schemathesis.Case) -> None:
        if case.path.startswith("/dicomweb") and len(str(case.body)) % 5:  # the boundary is named, most times
            kind = 'multipart/related; type="application/dicom"; boundary=b'
            case.headers["Content-Type"] = kind
        case.call_and_validate(
            checks=[
                schemathesis.checks.not_a_server_error, schemathesis.checks.status_code_conformance,
                schemathesis.checks.response_schema_conformance,
            ]
        )  # fmt: skip

    answered()


def test_paths_of_what_is_there_were_drawn() -> None:
    """Otherwise every route of a study would have said 404."""
    done = {entry.action for entry in STATION.history(limit=10_000)}
    assert {"sent a study", "removed", "cancelled"} <= done
    assert done & {"asked to classify", "asked to report"}
