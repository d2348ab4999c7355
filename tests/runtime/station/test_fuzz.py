"""Requests drawn from the OpenAPI document, right and wrong ones: none is a fault of the station's."""

from __future__ import annotations

import pytest
from station_fakes import FakeGenerator, catalogue, shelf

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install schemathesis")

import schemathesis
from hypothesis import HealthCheck, settings

from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.service import Service

EXAMPLES = 15  # of each endpoint
APP = create_app(
    Service(catalogue(), shelf(FakeGenerator('{"answer": "yes"}'))), hosts=frozenset({"localhost", "testserver"})
)
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
def test_no_request_is_a_fault_of_the_stations(case: schemathesis.Case) -> None:
    case.call_and_validate(
        checks=[
            schemathesis.checks.not_a_server_error, schemathesis.checks.status_code_conformance,
            schemathesis.checks.response_schema_conformance,
        ]
    )  # fmt: skip
