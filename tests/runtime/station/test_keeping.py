"""What a station does by itself, and what each role may do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from station_films import film

from medge.runtime.station.keeping import Keeper
from medge.runtime.station.station import Station
from medge.runtime.station.store.objects import Space
from medge.runtime.station.store.retention import Retention

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")

from station_clinic import Clinic, clinic

from medge.runtime.station.api.who import User, who_of


def test_old_studies_go_and_so_does_what_a_kill_left(tmp_path: Path) -> None:
    with Station.open(tmp_path / "s", space=Space(reserve=0, ballast=0)) as station:
        for number in range(4):
            station.put(film(1, f"1.2.{number}"), who="CT1")
        each = station.studies()[0].bytes
        stray = tmp_path / "s" / "objects" / "00" / ("0" * 64)
        stray.write_bytes(b"never acknowledged")
        keeper = Keeper(station, Retention(bytes=2 * each), every=0.05)
        keeper.start()
        until = time.monotonic() + 20
        while len(station.studies()) > 2 and time.monotonic() < until:
            time.sleep(0.02)
        keeper.stop()
        assert {one.study.uid for one in station.studies()} == {"1.2.2", "1.2.3"}
        assert not stray.exists()


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Clinic]:
    with clinic(tmp_path / "station") as opened:
        opened.upload(("a", film(1)))
        yield opened


@pytest.mark.parametrize(("role", "allowed"), [("viewer", 0), ("reader", 1), ("admin", 2)])
def test_roles(at: Clinic, role: str, allowed: int) -> None:
    inner = at.client.app._app._app  # type: ignore[attr-defined]  # behind the guard and the lock
    inner.dependency_overrides[who_of] = lambda: User("ann", role)  # type: ignore[arg-type]  # one of three words
    at.ask("GET", "/v1/studies/1.2.1.1")
    at.ask("GET", "/v1/studies/1.2.1.1/report")
    body = {"text": "Findings", "version": 0}
    at.ask("PUT", "/v1/studies/1.2.1.1/report", body, 200 if allowed >= 1 else 403)
    at.ask("POST", "/v1/studies/1.2.1.1/jobs", {"kind": "classify"}, 201 if allowed >= 1 else 403)
    at.upload(("b", film(2)), status=200 if allowed >= 1 else 403)
    at.ask("GET", "/v1/audit", status=200 if allowed >= 2 else 403)
    at.ask("DELETE", "/v1/studies/1.2.1.1", status=204 if allowed >= 2 else 403)
