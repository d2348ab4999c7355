"""Doors for tests: passwords that are hashed fast, a clock that is set by hand, and a station behind its lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from fastapi.testclient import TestClient
from station_fakes import catalogue, shelf

from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.service import Service
from medge.runtime.station.doors.doors import Doors
from medge.runtime.station.doors.passwords import Passwords
from medge.runtime.station.station import Station
from medge.runtime.station.store.database import Database

PASSWORD = "a sentence is a good one"
NAMES = {"admin": "Amina", "reader": "Rui", "viewer": "Wanjiru"}  # {role: the user of that role}


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at


def fast(memory: int = 8) -> Passwords:
    """Hashes in a millisecond."""
    return Passwords(PasswordHasher(time_cost=1, memory_cost=memory, parallelism=1))


def doors_at(folder: Path, clock: Clock, passwords: Passwords | None = None) -> Doors:
    """Doors over a database of their own."""
    return Doors(Database(folder / "station.sqlite", make=True), passwords or fast(), clock)


def with_users(doors: Doors) -> Doors:
    """With a user of each role."""
    for role, name in NAMES.items():
        doors.add_user(name, PASSWORD, role, who="test")
    return doors


def opened(station: Station, clock: Clock, *, url: str = "http://localhost:8642", **options: Any) -> TestClient:
    """A client of a station, which is at an address of this machine, or of `client`."""
    station.doors = Doors(station.doors._database, fast(), clock)
    client = options.pop("client", ("127.0.0.1", 50000))
    app = create_app(Service(catalogue(), shelf(), station=station), **options)
    return TestClient(app, base_url=url, client=client)


def log_in(client: TestClient, role: str = "admin") -> dict[str, str]:
    """Log in; the header that goes with the cookie, which the client keeps."""
    found = client.post("/v1/session", json={"name": NAMES[role], "password": PASSWORD})
    assert found.status_code == 200, found.text
    return {"X-CSRF-Token": found.json()["csrf"]}
