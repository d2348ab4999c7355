"""The workers of a station's own process: threads, each with the kinds of jobs that it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from .queue import Queue
from .worker import Handler, Worker


class Crew:
    """Threads that do jobs from `start` to `stop`.

    Args:
        queue: of the station.
        lanes: for each thread, handlers by kind of job: a report that takes minutes does not hold up what takes a second.
    """

    def __init__(self, queue: Queue, lanes: Sequence[Mapping[str, Handler]]) -> None:
        self._queue, self._stop = queue, threading.Event()
        self.kinds = frozenset(kind for lane in lanes for kind in lane)
        self._threads = [
            threading.Thread(target=Worker(queue, lane, name).run, args=[self._stop], name=f"medge-{name}", daemon=True)
            for lane in lanes
            if (name := "+".join(lane))
        ]

    def start(self) -> None:
        """Begin to work; once."""
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Give back the jobs that run, and end; what does not end within some seconds ends with the process, and its job is
        done again after the next start."""
        self._stop.set()
        self._queue.wake()
        until = time.monotonic() + seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))
