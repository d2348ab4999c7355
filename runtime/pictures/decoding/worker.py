"""The parent's side: decoder processes that are started at the first image that needs them, and used again.

A process that aborts, hangs or takes too much memory costs one image; the next image gets a new one. Several threads get a
process each. Processes end with their parent, since their input then ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...processes.parent import GoneError, NotStartedError, Process
from ..limits import MAX_PIXELS
from ..preprocess import spread_grey
from .protocol import ANSWER, LONGEST_REASON, PIXELS, READY, REFUSED, Refusal, clause

SECONDS = 60.0  # of processor time for an image; 150 million pixels of JPEG 2000 take 20 on one core
PATIENCE = 5  # times as long by the clock, since a machine that swaps gives little processor time
START = 60.0  # seconds until a process can take its first image
STRIP = 1 << 18  # bytes of grey that become colours at a time
MOST = 4  # processes of a library at a time; threads beyond that wait
# How libraries are found, where a system needs that; nothing else of the environment reaches a decoder.
_KEPT = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
# One thread for numpy. glibc keeps what an image took for the next one: fresh pages would cost more than decoding a JPEG does.
_SET = {
    "OPENBLAS_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "67108864",
    "MALLOC_TOP_PAD_": "1048576",
}  # fmt: skip


class Worker:
    """One decoder process.

    Args:
        library: which library it decodes with.

    Raises:
        Refusal: it can't be started.
    """

    def __init__(self, library: str) -> None:
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            self._process = Process(
                f"{__package__}.child", [library], environment=environment | _SET, ready=READY, seconds=START,
                folder=os.path.abspath(os.sep),
            )  # fmt: skip
        except NotStartedError as error:
            raise Refusal(f"the decoder process {error}") from error

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.alive

    def decode(
        self, what: str, payload: bytes, options: dict[str, Any], seconds: float, *, as_rgb: bool = False
    ) -> tuple[NDArray[Any], int]:  # fmt: skip
        """Pixels, (rows, columns) or (rows, columns, samples), or with the samples first; and the planar configuration.

        With `as_rgb`, always (rows, columns, 3): grey three times.

        Raises:
            Refusal: this image can't be decoded. Where the process ended with it, `alive` is false.
        """
        process = self._process
        process.deadline = time.monotonic() + PATIENCE * seconds
        try:
            process.send({"what": what, "seconds": seconds, **options}, [payload])
            return self._answer(as_rgb)
        except GoneError as error:
            process.stop()
            raise Refusal(self._why(seconds)) from error
        except Refusal:
            raise
        except BaseException:  # Ctrl-C in the middle: what comes next from this process would be an old answer
            process.stop()
            raise

    def _answer(self, as_rgb: bool) -> tuple[NDArray[Any], int]:
        status, itemsize, samples, planar, rows, columns, length = ANSWER.unpack(self._process.read(ANSWER.size))
        if status == REFUSED and length <= LONGEST_REASON:
            words = bytes(self._process.read(length)).decode("utf-8", "replace")
            raise Refusal(clause(words))
        if not (
            status == PIXELS and itemsize in (1, 2, 4) and 1 <= samples <= 4 and planar in (0, 1)
            and 0 < rows * columns <= MAX_PIXELS and length == rows * columns * samples * itemsize
            and not (as_rgb and (planar or samples not in (1, 3)))
        ):  # fmt: skip
            raise GoneError
        if as_rgb and samples == 1:
            return self._read_grey(rows, columns, itemsize), 0
        pixels = np.empty((samples, rows, columns) if planar else (rows, columns, samples), f"u{itemsize}")
        self._process.read_into(pixels.data.cast("B"))
        return (pixels[..., 0] if samples == 1 and not planar else pixels), planar

    def _read_grey(self, rows: int, columns: int, itemsize: int) -> NDArray[Any]:
        """(rows, columns, 3) of one sample a pixel, by strips: the machine's caches hold one, and it is written from there."""
        pixels = np.empty((rows, columns, 3), f"u{itemsize}")
        step = max(STRIP // (columns * itemsize), 1)
        strip = np.empty((min(step, rows), columns), pixels.dtype)
        for top in range(0, rows, step):
            part = strip[: min(step, rows - top)]
            self._process.read_into(part.data.cast("B"))
            spread_grey(part, pixels[top : top + step])
        return pixels

    def _why(self, seconds: float) -> str:
        deadline = self._process.deadline
        if (deadline is not None and time.monotonic() >= deadline) or self._process.signal_name() == "SIGXCPU":
            return f"not decoded within {seconds:g} s; the file is damaged"
        return "the decoder broke down while it read this file; the file is damaged"

    def stop(self) -> None:
        """End the process, and wait until it has."""
        self._process.stop()

    def let_go(self) -> None:
        """Close this process's ends of the pipes."""
        self._process.let_go()

    def disown(self) -> None:
        """In a fork of the parent: the process is the parent's, neither to be used nor waited for here."""
        self._process.disown()


class Workers:
    """The decoder processes of this process, by library."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[str, list[Worker]] = {}
        self._all: set[Worker] = set()
        self._turns: dict[str, threading.Semaphore] = {}

    def decode(
        self, library: str, what: str, payload: bytes, options: dict[str, Any], *, as_rgb: bool = False
    ) -> tuple[NDArray[Any], int]:
        """As `Worker.decode`, in a process that is free."""
        with self._borrowed(library) as worker:
            return worker.decode(what, payload, options, SECONDS, as_rgb=as_rgb)

    @contextlib.contextmanager
    def _borrowed(self, library: str) -> Iterator[Worker]:
        with self._lock:
            turns = self._turns.setdefault(library, threading.Semaphore(MOST))
        with turns:
            worker = self._take(library)
            try:
                yield worker
            finally:
                with self._lock:
                    if worker.alive:
                        self._idle.setdefault(library, []).append(worker)
                    else:
                        self._all.discard(worker)

    def _take(self, library: str) -> Worker:
        with self._lock:
            while idle := self._idle.get(library):
                worker = idle.pop()
                if worker.alive:
                    return worker
                self._all.discard(worker)  # ended from outside while it waited
                worker.let_go()
        worker = Worker(library)
        with self._lock:
            self._all.add(worker)
        return worker

    def pids(self) -> list[int]:
        """Of all processes that run."""
        with self._lock:
            return [worker.pid for worker in self._all if worker.alive]

    def stop(self) -> None:
        """End all processes; the next image starts one again."""
        with self._lock:
            found = list(self._all)
            self._all.clear()
            self._idle.clear()
        for worker in found:
            worker.stop()

    def forget(self) -> None:
        """After a fork, in the child: the processes answer the parent."""
        for worker in self._all:
            worker.disown()
        self._reset()


WORKERS = Workers()
atexit.register(WORKERS.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WORKERS.forget)
