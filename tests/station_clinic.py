"""A station that holds studies, over HTTP, with models of arithmetic, and its jobs done when a test says so."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image
from station_fakes import FakeGenerator, catalogue, labelled, shelf

from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.service import Service
from medge.runtime.station.station import Station
from medge.runtime.station.store.objects import Space
from medge.runtime.station.work.worker import Worker

SMALL = Space(reserve=0, ballast=1024)


def png(red: int = 90, green: int = 90, blue: int = 90, size: tuple[int, int] = (10, 20)) -> bytes:
    """A picture of one colour, of (rows, columns)."""
    content = io.BytesIO()
    Image.fromarray(np.full((*size, 3), (red, green, blue), np.uint8)).save(content, "PNG")
    return content.getvalue()


class Clinic:
    """A client of a station, and the station."""

    def __init__(self, client: TestClient, service: Service) -> None:
        self.client, self.service, self.station = client, service, service.held
        self._ticks = itertools.count()

    def ask(self, method: str, path: str, body: Any = None, status: int = 200, **params: Any) -> Any:
        """What a request answers, which must have this status."""
        content = None if body is None else json.dumps(body).encode()  # half a character as an escape, too
        headers = {"Content-Type": "application/json"} if content else {}
        found = self.client.request(method, path, content=content, params=params, headers=headers)
        assert found.status_code == status, found.text
        return found.json() if found.content else None

    def upload(self, *files: tuple[str, bytes], status: int = 200, **fields: str) -> Any:
        """Send files by name."""
        parts = [("files", (name, content, "application/octet-stream")) for name, content in files]
        found = self.client.post("/v1/studies", files=parts, data=fields)
        assert found.status_code == status, found.text
        return found.json()

    def work(self) -> None:
        """Do all jobs, also those that wait for more of their series."""
        begin = time.monotonic() + 1000
        self.station.queue._clock = lambda: begin + 100 * next(self._ticks)  # beyond what anything waits for
        handlers = {kind: handler for lane in self.service.lanes() for kind, handler in lane.items()}
        worker = Worker(self.station.queue, handlers)
        while worker.run_one():
            pass


@contextlib.contextmanager
def clinic(folder: Path, generator: FakeGenerator | None = None, space: Space = SMALL) -> Iterator[Clinic]:
    """A station in a folder."""
    with Station.open(folder, space=space) as station:
        service = Service(catalogue(), shelf(generator, labelled()), station=station)
        with TestClient(create_app(service), base_url="http://localhost:8642") as client:
            yield Clinic(client, service)
