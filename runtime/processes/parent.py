"""The parent's side of a worker process: started with a clean interpreter, read with a deadline, ended with its parent.

A process ends when its input ends, which it does with the parent, however that ends. Nothing is forked.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from .pipes import REQUEST

_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from {} import main; main()"
_LONGEST_WORDS = 1 << 16  # bytes of what a process wrote to its standard error


class NotStartedError(Exception):
    """Why a process can't be started: one clause whose subject is the process."""


class GoneError(Exception):
    """The process ended, was too late, or what it says makes no sense."""


class Process:
    """A Python process that runs `main()` of one of medge's modules.

    Args:
        module: its full name.
        words: its command line.
        environment: all that it is given of one.
        ready: the first that it says.
        seconds: until it must have said that.
        folder: where it works.
        keep_words: keep what it writes to its standard error, for `last_words`.

    Raises:
        NotStartedError: there is no interpreter to start, or it does not start.
    """

    def __init__(
        self, module: str, words: Sequence[str], *, environment: Mapping[str, str], ready: bytes, seconds: float,
        folder: str | None = None, keep_words: bool = False,
    ) -> None:  # fmt: skip
        if not sys.executable or getattr(sys, "frozen", False):
            raise NotStartedError("needs a Python interpreter of its own, and this program has none to start")
        # By `-c`, so that the main module of whoever uses this is not run again; `-I -S -B`, so that nothing else is, and
        # nothing is written.
        command = [sys.executable, "-I", "-S", "-B", "-c", _CODE.format(module), *words, json.dumps(_search_path())]
        apart: dict[str, Any] = {"start_new_session": True}  # the terminal's Ctrl-C is for the parent
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if keep_words else subprocess.DEVNULL, bufsize=0, env=dict(environment), cwd=folder,
                **apart,
            )  # fmt: skip
        except (OSError, ValueError, RuntimeError) as error:
            raise NotStartedError(f"can't be started ({error})") from error
        assert self._process.stdin is not None  # both are pipes
        assert self._process.stdout is not None
        self._in, self._out, self._err = self._process.stdin, self._process.stdout, self._process.stderr
        self._finalizer = weakref.finalize(self, _end, self._process, [self._in, self._out, self._err])
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(self._out, select.POLLIN)
        self.deadline: float | None = time.monotonic() + seconds
        try:
            if self.read(len(ready)) != ready:
                raise GoneError
        except GoneError as error:
            self.stop()
            raise NotStartedError("doesn't start; is the installation of medge complete?") from error
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def can_wait(self) -> bool:
        """Whether `wait` keeps the deadline; not on Windows, which can't wait for a pipe."""
        return self._poll is not None

    def send(self, request: Mapping[str, Any], payload: Sequence[Any] = ()) -> None:
        """Write a request.

        Args:
            request: what becomes a JSON object.
            payload: bytes or buffers that follow it.
        """
        words = json.dumps(request).encode()
        parts = [memoryview(piece).cast("B") for piece in payload]
        for piece in (REQUEST.pack(len(words), sum(map(len, parts))), words, *parts):
            self._write(piece)

    def wait(self) -> None:
        """Wait until the process has said something; past `deadline`, end it.

        Raises:
            GoneError: it was too late.
        """
        if self._poll is None:
            return
        left = None if self.deadline is None else max(self.deadline - time.monotonic(), 0) * 1000
        if not self._poll.poll(left):
            self._process.kill()
            raise GoneError

    def read(self, size: int) -> bytearray:
        found = bytearray(size)
        self.read_into(memoryview(found))
        return found

    def read_into(self, rest: memoryview) -> None:
        while rest:
            self.wait()
            count = self._out.readinto(rest)  # type: ignore[attr-defined]  # without a buffer, this is a FileIO
            if not count:
                raise GoneError
            rest = rest[count:]

    def _write(self, piece: Any) -> None:
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[self._in.write(rest) :]
        except (OSError, ValueError) as error:  # ValueError: closed here
            raise GoneError from error

    @property
    def code(self) -> int | None:
        """What it ended with; a signal's number below zero."""
        return self._process.returncode

    def signal_name(self) -> str:
        """The name of the signal that ended it, or ""."""
        with contextlib.suppress(ValueError):
            return signal.Signals(-(self.code or 0)).name
        return ""

    def last_words(self) -> str:
        """The first line that an ended process wrote to its standard error, or ""."""
        if self._err is None or self._err.closed:
            return ""
        os.set_blocking(self._err.fileno(), False)
        said = self._err.read(_LONGEST_WORDS) or b""
        return next(filter(None, map(str.strip, said.decode("utf-8", "replace").splitlines())), "")

    def stop(self) -> None:
        """End the process, and wait until it has."""
        self.kill()
        self.let_go()

    def kill(self) -> None:
        """The same, with the pipes kept: what it said last can still be read."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()

    def let_go(self) -> None:
        """Close this process's ends of the pipes."""
        _close([self._in, self._out, self._err])

    def disown(self) -> None:
        """In a fork of the parent: the process is the parent's, neither to be used nor waited for here."""
        self._finalizer.detach()
        self.let_go()
        self._process.returncode = 0


def _close(pipes: Iterable[IO[bytes] | None]) -> None:
    for pipe in pipes:
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()


def _end(process: subprocess.Popen[bytes], pipes: list[IO[bytes] | None]) -> None:
    """When nobody holds the object any more, or this program ends."""
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()
    _close(pipes)


def _search_path() -> list[str]:
    """Where this process finds its packages; the current folder only where it is named."""
    home = sys.modules[(__package__ or "").partition(".")[0]].__file__
    return [*(os.path.abspath(place) for place in sys.path if place), str(Path(home or "").parents[1])]
