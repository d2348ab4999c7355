"""The queue of a station's jobs: added, claimed, closed, each in a transaction of its own."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ..store.database import Database
from . import jobs
from .jobs import DEFAULT_LIMITS, Claim, Job, Limits, NewJob


class Queue:
    """Jobs that survive the process that does them.

    Several threads and processes of one machine may use the same queue at once. A job is done by one worker at a time, as far
    as its lease goes: where a worker was thought dead and was not, what it made of the job does not count.

    Args:
        database: of the station.
        limits: how often a job is tried.
        clock: seconds that only ever grow, the same for all processes of the machine.
    """

    def __init__(
        self, database: Database, limits: Limits = DEFAULT_LIMITS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self._database, self._clock = database, clock
        self._added = threading.Condition()

    def add(
        self, kind: str, payload: Any = None, *, key: str = "", study: str | None = None, priority: int = 0,
        settle: float | None = None,
    ) -> Job:  # fmt: skip
        """Add a job; it is on the disk when this returns.

        Args:
            kind, payload, key, study, priority, settle: as in `NewJob`.

        Returns:
            The job; the one that was there where one has the same key, whatever became of it.

        Raises:
            StationError: the database can't be written.
        """
        with self._database.write() as connection:
            added = jobs.add(connection, NewJob(kind, payload, key, study, priority, settle), self._clock())
        self.wake()
        return added

    def add_within(self, connection: sqlite3.Connection, new: NewJob) -> None:
        """Add a job within a transaction; `wake` tells the workers when it has ended."""
        jobs.add(connection, new, self._clock())

    def wake(self) -> None:
        """Tell waiting workers of this process that there is something to do; others look by themselves."""
        with self._added:
            self._added.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until a job was added by this process, or for some time."""
        with self._added:
            self._added.wait(seconds)

    def get(self, number: int) -> Job | None:
        with self._database.read() as connection:
            return jobs.get(connection, number)

    def list(self, *, state: str = "", study: str = "", kind: str = "", limit: int = 100) -> list[Job]:
        """The newest first; "" chooses nothing."""
        with self._database.read() as connection:
            return jobs.listed(connection, state=state, study=study, kind=kind, limit=limit)

    def counts(self) -> dict[str, int]:
        """{state: how many jobs}; states without any are left out."""
        with self._database.read() as connection:
            return jobs.counts(connection)

    def ahead(self, job: Job) -> int:
        """How many jobs of its kind come before a waiting one, those that run included."""
        with self._database.read() as connection:
            return jobs.ahead(connection, job)

    def cancel(self, number: int) -> Job:
        """Cancel a job: at once where it waits or is parked, as soon as its worker hears of it where it runs.

        Raises:
            ConflictError: it is closed.
            StationError: there is none.
        """
        with self._database.write() as connection:
            return jobs.cancel(connection, number)

    def retry(self, number: int) -> Job:
        """Try a parked or cancelled job anew.

        Raises:
            ConflictError: it is open or done.
            StationError: there is none.
        """
        with self._database.write() as connection:
            found = jobs.retry(connection, number)
        self.wake()
        return found

    def claim(self, kinds: Collection[str], worker: str) -> Claim | None:
        """Take the next job of some kinds; None where none is due."""
        with self._database.read() as connection:  # most often there is nothing, and nobody has to wait for that
            if not jobs.any_due(connection, kinds, self._clock()):
                return None
        # Of a claim that a power cut undoes the job waits as before.
        with self._database.write(durable=False) as connection:
            return jobs.claim(connection, kinds, worker, self.limits, self._clock())

    def extend(self, held: Claim) -> None:
        """Show a sign of life.

        Raises:
            ClaimLostError: it is another's.
        """
        with self._database.write(durable=False) as connection:
            jobs.extend(connection, held, self.limits, self._clock())

    def goes_on(self, held: Claim) -> bool:
        """Whether nobody has cancelled a job that a worker has.

        Raises:
            ClaimLostError: it is another's.
        """
        with self._database.read() as connection:
            return jobs.goes_on(connection, held)

    def tell(self, held: Claim, done: int, steps: int, doing: str) -> None:
        """Say how far a job is.

        Raises:
            ClaimLostError: it is another's.
        """
        with self._database.write(durable=False) as connection:
            jobs.tell(connection, held, done, steps, doing)

    def complete(
        self, held: Claim, content: Any, then: Sequence[NewJob] = (),
        also: Callable[[sqlite3.Connection], None] = lambda connection: None,
    ) -> None:  # fmt: skip
        """Close a job, with its result and the jobs that follow from it: all or nothing.

        Args:
            held: the job.
            content: the result; what JSON can hold.
            then: jobs to add.
            also: writes what belongs to the result.

        Raises:
            ClaimLostError: it is another's; nothing was written.
        """
        with self._database.write() as connection:
            jobs.complete(connection, held, content)
            also(connection)
            for new in then:
                jobs.add(connection, new, self._clock())
        if then:
            self.wake()

    def fail(self, held: Claim, reason: str, fault: str = "") -> None:
        """Give a job back that failed: it is tried later, or parked with this reason. `fault`: as `fault_of` says it.

        Raises:
            ClaimLostError: it is another's.
        """
        with self._database.write() as connection:
            jobs.fail(connection, held, reason, self.limits, self._clock(), fault)

    def give_back(self, held: Claim) -> None:
        """Give a job back that was not finished because the worker was told to stop; it counts as no failure.

        Raises:
            ClaimLostError: it is another's.
        """
        with self._database.write() as connection:
            jobs.give_back(connection, held)

    def close_cancelled(self, held: Claim) -> None:
        """Close a job that was cancelled while it ran.

        Raises:
            ClaimLostError: it is another's.
        """
        with self._database.write() as connection:
            jobs.close_cancelled(connection, held)

    def begin_again(self) -> int:
        """When a station starts: take back what workers of the one before had; how many jobs."""
        with self._database.write() as connection:
            return jobs.begin_again(connection, self.limits)
