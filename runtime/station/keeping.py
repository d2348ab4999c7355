"""What a station does by itself now and then: removes what a kill has left, and lets studies go that are too old."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..errors import StationError
from .station import Station
from .store.retention import Retention

_LOG = logging.getLogger("medge.station")
EVERY = 600.0  # seconds


class Keeper:
    """A thread that tidies a station, once at its start and then by its retention.

    Args:
        station: the station.
        kept: how long it keeps studies.
        every: seconds between two looks.
    """

    def __init__(self, station: Station, kept: Retention, every: float = EVERY) -> None:
        self._station, self._kept, self._every = station, kept, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="medge-keeper", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """End, after what is being removed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        self._try(self._station.tidy)
        while not self._stop.is_set():
            if self._kept != Retention():
                self._try(lambda: self._station.sweep(self._kept))
            self._stop.wait(self._every)

    @staticmethod
    def _try(work: Callable[[], object]) -> None:
        try:
            work()
        except StationError as error:
            _LOG.warning("the station could not be tidied: %s", error)
