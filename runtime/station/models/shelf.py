"""Models that are loaded when they are first asked for, and put away when another one needs their memory."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ...errors import StationError
from ...generator.planner import Device, Plan
from .catalogue import Entry


class Opener(Protocol):
    """How bundles become models."""

    def plan(self, entry: Entry, device: Device) -> Plan:
        """What a bundle takes on a device with this much free memory."""
        ...

    def open(self, entry: Entry, plan: Plan) -> Any:
        """Load a bundle as planned: an `Encoder` or a `Generator`."""
        ...

    def close(self, model: Any) -> None:
        """Give a model's memory back."""
        ...


@dataclass
class _Place:
    entry: Entry
    model: Any
    bytes: int
    users: int = 0
    used: float = 0.0


class Shelf:
    """The loaded models. Threads share it; a model is put away only while nobody uses it, the longest unused one first.

    Args:
        opener: how bundles become models.
        device: what this machine has now.
    """

    def __init__(self, opener: Opener, device: Callable[[], Device] = Device.here) -> None:
        self._opener, self._device = opener, device
        self._changed = threading.Condition()
        self._places: dict[str, _Place] = {}
        self._opening = False
        self._closed = False

    @property
    def loaded(self) -> dict[str, int]:
        """{id: bytes that were planned for it} of the models in memory."""
        with self._changed:
            return {name: place.bytes for name, place in self._places.items()}

    @contextlib.contextmanager
    def borrow(self, entry: Entry) -> Iterator[Any]:
        """The model of a bundle, which is loaded where it is not yet.

        Raises:
            StationError: the station is closing.
            ContextError: it does not fit into memory, with nothing else loaded.
            BundleError: it can't be loaded.
        """
        place = self._take(entry)
        try:
            yield place.model
        finally:
            with self._changed:
                place.users -= 1
                place.used = time.monotonic()
                self._changed.notify_all()

    def close(self, seconds: float = 10.0) -> None:
        """Put all models away; whoever asks from now on is refused.

        Args:
            seconds: how long those are waited for that are in use. A language model's process ends with this one at the latest.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: not self._opening and not any(place.users for place in self._places.values()), seconds
            )
            idle = [place for place in self._places.values() if not place.users]
            for place in idle:
                del self._places[place.entry.id]
        for place in idle:
            self._opener.close(place.model)

    def _take(self, entry: Entry) -> _Place:
        with self._changed:
            while True:
                if self._closed:
                    raise StationError("the station is closing")
                if (place := self._places.get(entry.id)) is not None:
                    place.users += 1
                    return place
                if not self._opening:  # one at a time: each counts with what the others left
                    self._opening = True
                    break
                self._changed.wait()
        try:
            plan = self._make_room(entry)
            place = _Place(entry, self._opener.open(entry, plan), plan.need.total, 1)
            with self._changed:
                self._places[entry.id] = place
            return place
        finally:
            with self._changed:
                self._opening = False
                self._changed.notify_all()

    def _make_room(self, entry: Entry) -> Plan:
        """A plan that fits, once as many models as needed are put away."""
        while True:
            with self._changed:
                if self._closed:
                    raise StationError("the station is closing")
                plan = self._opener.plan(entry, self._left())
                if plan.fits:
                    return plan
                if not self._places:
                    return plan.checked()  # raises: it would not fit alone either
                idle = [place for place in self._places.values() if not place.users]
                if not idle:
                    self._changed.wait()
                    continue
                oldest = min(idle, key=lambda place: place.used)
                del self._places[oldest.entry.id]
            self._opener.close(oldest.model)

    def _left(self) -> Device:
        """This machine with the memory that is free, and that no loaded model was promised: weights that are mapped from their
        files count as free with the system."""
        device = self._device()
        promised = sum(place.bytes for place in self._places.values())
        return dataclasses.replace(device, memory_free=max(0, min(device.memory_free, device.memory_total - promised)))
