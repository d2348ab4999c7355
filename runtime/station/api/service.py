"""What the routes share: the bundles, the loaded models, the queue, and how work leaves the event loop."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import anyio
import anyio.to_thread
import numpy as np
from fastapi import Depends, Request
from numpy.typing import NDArray

from ...device.cpu import usable_cores
from ...errors import StationFullError
from ...pictures.images import read_image
from ...pictures.preprocess import get_profile
from ...pictures.view import DEFAULT_VIEW, View
from ..models.answers import AnswerQueue
from ..models.catalogue import Catalogue, Entry
from ..models.embedding import embed_pixels
from ..models.shelf import Shelf
from ..reading.drafting import Drafter
from ..reading.intake import CLASSIFY, DELIVER, REPORT
from ..reading.judging import Judge
from ..station import Station
from ..work.jobs import NewJob
from ..work.worker import Handler, Outcome, Task
from .metrics import Metrics
from .problems import RefusedError

if TYPE_CHECKING:
    from ...encoder.encoder import Encoder

R = TypeVar("R")


class Helper(Protocol):
    """What works beside the requests: the workers, the DICOM node."""

    def start(self) -> None:
        """Begin; once."""
        ...

    def stop(self) -> None:
        """End, within some seconds."""
        ...


@dataclass
class Service:
    """One station's models and counts.

    Attributes:
        catalogue: its bundles.
        shelf: the loaded ones.
        queue: before the language models.
        station: what it holds; None of one that only answers.
        helpers: what starts and ends with the application, in order; ended from the last to the first.
        listening: seconds after which a stream of events ends; the client opens another.
        ending: set when the station is about to end, so that streams do.
        metrics: what is counted.
    """

    catalogue: Catalogue
    shelf: Shelf
    queue: AnswerQueue = field(default_factory=AnswerQueue)
    station: Station | None = None
    helpers: list[Helper] = field(default_factory=list)
    listening: float = 3600.0
    ending: threading.Event = field(default_factory=threading.Event)
    metrics: Metrics = field(init=False)
    _seats: anyio.CapacityLimiter | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.metrics = Metrics(lambda: len(self.queue), lambda: sum(self.shelf.loaded.values()))

    @cached_property
    def judge(self) -> Judge:
        """What judges the station's studies.

        Raises:
            RefusedError: the station holds none.
        """
        return Judge(self.held, self.catalogue, self.shelf, self.metrics.images.inc)

    @property
    def held(self) -> Station:
        """The studies.

        Raises:
            RefusedError: the station holds none.
        """
        if self.station is None:
            raise RefusedError("this station holds no studies: start it with --store", status=404, code="no_store")
        return self.station

    def lanes(self) -> list[dict[str, Handler]]:
        """What the workers of this process do, a thread each."""
        drafter = Drafter(self.held, self.catalogue, self.shelf, self.queue)
        return [{CLASSIFY: self.judge.classify}, {REPORT: self._drafted(drafter)}, {DELIVER: self._deliver}]

    def _drafted(self, drafter: Drafter) -> Handler:
        """Drafts, which go out unsigned where the clinic has turned that on."""

        def report(task: Task) -> Outcome:
            content, study = drafter.report(task), task.job.study
            if not self.held.setting("deliver_unsigned", False):
                return Outcome(content)
            key = f"{DELIVER} {study} draft {task.job.id}"
            return Outcome(content, [NewJob(DELIVER, {"study": study}, key, study)])

        return report

    def _deliver(self, task: Task) -> Any:
        """Give a study's results back to the clinic's systems."""
        from .... import __version__
        from ..delivery.deliver import Deliverer  # what writes DICOM and PDF takes a second to load
        from ..delivery.outgoing import outgoing

        station = self.held
        return Deliverer(station, lambda uid: outgoing(station, uid), __version__, self.catalogue).deliver(task)

    async def aside(self, work: Callable[..., R], *given: Any) -> R:
        """Do work that computes in a thread, as many at a time as there are cores."""
        if self._seats is None:  # belongs to the event loop, which is not there yet when a service is made
            self._seats = anyio.CapacityLimiter(max(1, usable_cores()))
        return await anyio.to_thread.run_sync(functools.partial(work, *given), limiter=self._seats)

    async def note_question(self, who: str, entry: Entry) -> None:
        """Note in the audit log who has asked which language model; what was asked is kept nowhere."""
        if self.station is not None:
            with contextlib.suppress(StationFullError):  # a full disk keeps nobody from an answer
                await self.aside(self.station.note, who, "asked a model", "", {"bundle": entry.id})

    async def with_encoder(self, entry: Entry, work: Callable[[Encoder], R]) -> R:
        """Do work with an encoder, in a thread."""

        def borrowed() -> R:
            with self.shelf.borrow(entry) as encoder:
                return work(encoder)

        return await self.aside(borrowed)


def fitted(entry: Entry, content: bytes) -> NDArray[np.uint8]:
    """A file as a model takes it: (side, side, 3) uint8. Resizing it once more to this size changes nothing.

    Raises:
        ImageError: it can't be read.
    """
    return get_profile(entry.profile).resize(read_image(content), entry.image_size)


async def embed_image(at: Service, entry: Entry, content: bytes, view: View = DEFAULT_VIEW) -> NDArray[np.float32]:
    """The embedding of a file, (D,) float32 of unit length.

    Raises:
        ImageError: it can't be read.
    """
    row = await at.with_encoder(entry, lambda encoder: embed_pixels(encoder, read_image(content, view)))
    at.metrics.images.inc()
    return row


def service_of(request: Request) -> Service:
    """The service of the app that a request was made to."""
    found: Service = request.app.state.service
    return found


At = Annotated[Service, Depends(service_of)]


def held_of(at: At) -> Station:
    """The studies of the app that a request was made to."""
    return at.held


Held = Annotated[Station, Depends(held_of)]
