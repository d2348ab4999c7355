"""The queue before the language models: one answer is made at a time, and whoever waits knows their place and about how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...errors import StationError

MOST = 16  # answers that wait or are being made
WEIGHT = 0.3  # of the newest answer in the mean time of an answer


class BusyError(StationError):
    """The queue is full.

    Attributes:
        seconds: about how long until there is a place.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__("too many questions are waiting at this station; ask again later")


class LeftError(StationError):
    """Whoever asked has gone."""


class Ticket:
    """A place in the queue; `leave` gives it up."""

    def __init__(self, queue: AnswerQueue) -> None:
        self._queue = queue
        self.begun: float | None = None

    @property
    def place(self) -> int:
        """Answers that come before this one; 0 when it is its turn, or has been."""
        return self._queue._place(self)

    @property
    def seconds(self) -> float:
        """About how long until its turn."""
        return self._queue._seconds(self)

    def wait(self) -> None:
        """Wait for the answers before this one.

        Raises:
            LeftError: the place was given up meanwhile.
        """
        self._queue._wait(self)

    def leave(self) -> None:
        """Let the next one come; a second time does nothing."""
        self._queue._leave(self)


class AnswerQueue:
    """First come, first served.

    Args:
        most: answers that wait or are being made; more are refused.
        clock: seconds.
    """

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._moved = threading.Condition()
        self._tickets: list[Ticket] = []
        self._mean = 0.0  # seconds of an answer; 0 before the first is done

    def __len__(self) -> int:
        return len(self._tickets)

    def join(self) -> Ticket:
        """Take a place.

        Raises:
            BusyError: there is none.
        """
        with self._moved:
            if len(self._tickets) >= self._most:
                raise BusyError(max(1.0, self._until(1)))
            ticket = Ticket(self)
            self._tickets.append(ticket)
            return ticket

    def _place(self, ticket: Ticket) -> int:
        with self._moved:
            return self._tickets.index(ticket) if ticket in self._tickets else 0

    def _seconds(self, ticket: Ticket) -> float:
        with self._moved:
            return self._until(self._tickets.index(ticket)) if ticket in self._tickets else 0.0

    def _until(self, place: int) -> float:
        """Seconds until the answers before this place are done."""
        if place == 0:
            return 0.0
        begun = self._tickets[0].begun
        done = 0.0 if begun is None else min(self._clock() - begun, self._mean)
        return place * self._mean - done

    def _wait(self, ticket: Ticket) -> None:
        with self._moved:
            while ticket in self._tickets:
                if self._tickets[0] is ticket:
                    ticket.begun = self._clock()
                    return
                self._moved.wait()
        raise LeftError("the question was withdrawn")

    def _leave(self, ticket: Ticket) -> None:
        with self._moved:
            if ticket not in self._tickets:
                return
            self._tickets.remove(ticket)
            if ticket.begun is not None:
                took = self._clock() - ticket.begun
                self._mean = took if self._mean == 0.0 else (1 - WEIGHT) * self._mean + WEIGHT * took
            self._moved.notify_all()
