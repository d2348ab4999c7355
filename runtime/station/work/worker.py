"""A worker: takes jobs, shows signs of life while their handlers run, and closes them."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import ClaimLostError, MedgeError, StationError, fault_of, one_line
from .jobs import Claim, Job, NewJob
from .queue import Queue

_LOG = logging.getLogger("medge.station")
_TRIES = 5  # of closing a job whose result can't be written at the moment
_PAUSE = 5.0  # seconds after which a worker tries a database again that can't be used
_LISTEN = 1.0  # seconds between two looks whether a job was cancelled
_OFTEN = 0.5  # seconds between two words about progress, which wear out memory cards


class _Stopped(BaseException):
    """Ends a handler from within; no `except Exception` of a handler swallows it."""


@dataclass(frozen=True)
class Outcome:
    """What a handler returns that adds jobs.

    Attributes:
        content: the result; what JSON can hold.
        then: jobs to add when, and only when, the result is stored.
        also: what else is written with the result, in the same transaction.
    """

    content: Any
    then: Sequence[NewJob] = ()
    also: Callable[[sqlite3.Connection], None] = field(default=lambda connection: None)


class Task:
    """A job in the hands of its handler."""

    def __init__(self, queue: Queue, held: Claim, stop: threading.Event) -> None:
        self.job: Job = held.job
        self._queue, self._held, self._stop = queue, held, stop
        self._last_told = float("-inf")
        self.ended = threading.Event()  # someone cancelled it, or it is another's
        self.cancelled = False

    def check(self) -> None:
        """End the handler where the job was cancelled or lost, or the worker is to stop. Call it now and then."""
        if self.ended.is_set() or self._stop.is_set():
            raise _Stopped

    def progress(self, doing: str, done: int, steps: int) -> None:
        """Say how far the job is, and `check`; a `runtime.progress.Progress`."""
        self.check()
        at = time.monotonic()
        if at - self._last_told >= _OFTEN or done >= steps:
            self._last_told = at
            with contextlib.suppress(StationError):  # a disk that is full for a moment must not end the work
                self._queue.tell(self._held, done, steps, doing)


Handler = Callable[[Task], Any]


class Worker:
    """Does jobs, one at a time.

    A handler is given a `Task` and returns the result, as JSON can hold it, or an `Outcome`. It may be run again for the same
    job, after a kill or a lost lease, so that what it does elsewhere must be the same when it is done twice. What it
    raises is the reason of the failure; where that is no `MedgeError`, only its type is kept, since a library's message may hold
    what a file says of a patient.

    Args:
        queue: of the station.
        handlers: by kind of job.
        name: for `Job.worker`.
        poll: seconds after which it looks for jobs that other processes have added.
    """

    def __init__(self, queue: Queue, handlers: Mapping[str, Handler], name: str = "worker", poll: float = 0.5) -> None:
        self._queue, self._handlers, self._name, self._poll = queue, dict(handlers), name, poll

    def run(self, stop: threading.Event) -> None:
        """Do jobs until `stop` is set; a job that runs then is given back when its handler next calls `check`.

        A disk that is full, or a database in use, is waited for.
        """
        while not stop.is_set():
            try:
                busy = self.run_one(stop)
            except StationError as error:
                _LOG.warning("the worker waits: %s", error)
                stop.wait(_PAUSE)
            else:
                if not busy:
                    self._queue.wait(self._poll)

    def run_one(self, stop: threading.Event | None = None) -> bool:
        """Do the next job; whether there was one.

        Raises:
            StationError: the database can't be used.
        """
        held = self._queue.claim(self._handlers.keys(), self._name)
        if held is None:
            return False
        task = Task(self._queue, held, stop or threading.Event())
        try:
            with self._signs_of_life(task, held):
                settle = self._handled(task, held)
                _persist(settle)
        except ClaimLostError:
            _LOG.warning("job %d was another's when its result came; it does not count", held.job.id)
        return True

    def _handled(self, task: Task, held: Claim) -> Callable[[], None]:
        """Run the handler; how the job is to be closed."""
        queue = self._queue
        try:
            found = self._handlers[held.job.kind](task)
        except _Stopped:
            if task.cancelled:
                return lambda: queue.close_cancelled(held)
            return lambda: queue.give_back(held)
        except Exception as error:
            reason = one_line(error) if isinstance(error, MedgeError) else f"{type(error).__name__} in the handler"
            _LOG.warning("job %d (%s) failed: %s", held.job.id, held.job.kind, type(error).__name__)
            fault = fault_of(error)
            return lambda: queue.fail(held, reason, fault)
        except BaseException:  # Ctrl-C, or the end of the program
            with contextlib.suppress(StationError):
                queue.give_back(held)
            raise
        outcome = found if isinstance(found, Outcome) else Outcome(found)
        return lambda: self._complete(held, outcome)

    def _complete(self, held: Claim, outcome: Outcome) -> None:
        try:
            self._queue.complete(held, outcome.content, outcome.then, outcome.also)
        except (TypeError, ValueError) as error:
            _LOG.warning("job %d (%s): its result can't be written as JSON", held.job.id, held.job.kind)
            self._queue.fail(held, f"the handler's result can't be written as JSON ({type(error).__name__})")

    @contextlib.contextmanager
    def _signs_of_life(self, task: Task, held: Claim) -> Iterator[None]:
        """While the block runs, extend the lease and listen for a cancellation."""
        over = threading.Event()

        def beat() -> None:
            extended, each = time.monotonic(), self._queue.limits.lease / 4
            while not over.wait(min(each, _LISTEN)):
                try:
                    if not self._queue.goes_on(held):
                        task.cancelled = True
                        task.ended.set()
                    if time.monotonic() - extended >= each:
                        self._queue.extend(held)
                        extended = time.monotonic()
                except ClaimLostError:
                    task.ended.set()
                    return
                except StationError as error:
                    _LOG.warning("job %d: its lease can't be extended: %s", held.job.id, error)

        thread = threading.Thread(target=beat, name=f"{self._name}: signs of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _persist(settle: Callable[[], None]) -> None:
    """Close a job; where the disk is full or the database in use, again after a while. The lease goes on meanwhile."""
    for again in range(_TRIES):
        try:
            settle()
            return
        except ClaimLostError:
            raise
        except StationError:
            if again == _TRIES - 1:
                raise
            time.sleep(2.0**again)
