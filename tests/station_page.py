"""A station of real pictures with models of arithmetic, served on loopback for a browser."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from station_clinic import SMALL
from station_fakes import FakeEncoder, FakeGenerator, catalogue, labelled, shelf

from medge.runtime.decisions.calibration import Decision, Finding
from medge.runtime.encoder.classification import Classification
from medge.runtime.station.api.app import create_app
from medge.runtime.station.api.service import Service
from medge.runtime.station.reading.intake import jobs_for
from medge.runtime.station.station import Station
from medge.runtime.station.work.crew import Crew

REPORT = '{"findings": {"description": "Grey levels of soft tissue."}, "impression": "No finding."}'


class Deciding:
    """An encoder whose scores are calibrated: what is grey is present, what is red absent; a colour picture is unlike all."""

    def __init__(self, encoder: FakeEncoder) -> None:
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def calibrated(self, bank: Any) -> bool:
        return True

    def score(self, embeddings: Any, bank: Any) -> list[Classification]:
        found = self._encoder.score(embeddings, bank)
        for one, row in zip(found, np.asarray(embeddings), strict=True):
            unlike = bool(abs(row[0] - 0.743) > 0.05)
            said = ("uncertain", "uncertain") if unlike else ("present", "absent")
            findings = (Finding("grey", said[0], 0.93), Finding("red", said[1], 0.04))
            object.__setattr__(one, "decision", Decision(unlike, 2.5, "", findings, ("grey",)))
        return found


class Open:
    """A running station: its address, the models' stand-in, and its store."""

    def __init__(self, url: str, generator: FakeGenerator, station: Station) -> None:
        self.url, self.generator, self.station = url, generator, station

    def take(self, path: Path) -> str:
        """Put a file into the station; the UID of its study."""
        with path.open("rb") as stream:
            got = self.station.put(stream, who="test", then=jobs_for)
        return self.station.study_of(got.instance)

    def wait(self, uid: str, state: str = "done", seconds: float = 30) -> None:
        """Until a study is in a state."""
        from medge.runtime.station.store.catalogue import Wanted

        until = time.monotonic() + seconds
        while True:
            found = {one.study.uid: one.state for one in self.station.studies(Wanted())}
            if found.get(uid) == state:
                return
            assert time.monotonic() < until, found
            time.sleep(0.1)


@contextlib.contextmanager
def open_station(folder: Path, encoder: Any = None) -> Iterator[Open]:
    """Serve until the block ends; jobs are done at once."""
    generator = FakeGenerator()
    with Station.open(folder, space=SMALL) as station:
        service = Service(catalogue(), shelf(generator, encoder or Deciding(labelled())), station=station)  # type: ignore[arg-type]
        service.helpers.append(Crew(station.queue, service.lanes()))
        config = uvicorn.Config(
            create_app(service),
            host="127.0.0.1",
            port=0,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < until, "the station did not start"
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield Open(f"http://127.0.0.1:{port}", generator, station)
        finally:
            service.ending.set()
            server.should_exit = True
            thread.join(20)
