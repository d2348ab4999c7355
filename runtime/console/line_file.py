"""A file that lines are added to as work goes on, and that a later run of the same work goes on with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from ..bundles.atomic import refuse_special
from ..bundles.claim import claimed
from ..errors import GOES_ON, storage_errors


class LineFile:
    """A file of lines. Once a line is added, no end of the process loses it.

    The file is claimed as long as it is open, since another run that goes on in it would cut this one's lines. A last line
    that a killed process or a full disk has cut off is removed.

    Args:
        path: the file; folders above it are made.
        head: what stands before the lines, with its end of line; it may be empty.
        take_up: gets the whole lines that an earlier run has left, with their head, and what stands of a line that was cut
            off; both are empty where there is no file. It answers whether this run goes on after these lines; if not, the
            file begins anew. If it raises an error, the file stays as it is.
        place: what is claimed and named in errors, where the file only lies beside it.
        passing: remove the file when the block has ended without an error.

    Raises:
        PlaceTakenError: another process, or another thread of this one, has it open.
        StorageError: the file system refused.
    """

    def __init__(
        self,
        path: Path,
        head: bytes,
        take_up: Callable[[bytes, bytes], bool],
        *,
        place: Path | None = None,
        passing: bool = False,
    ) -> None:
        self.path, self._place, self._passing = path, place or path, passing
        refuse_special(self._place)
        refuse_special(path)
        with contextlib.ExitStack() as stack:
            stack.enter_context(claimed(self._place))
            with storage_errors(self._place):
                left = path.read_bytes() if path.exists() else b""
                kept = left.rfind(b"\n") + 1
                if not take_up(left[:kept], left[kept:]):
                    kept = 0
                self._stream = path.open("r+b" if kept else "wb")
                stack.push(self._close)
                self._stream.truncate(kept)  # what is kept is not written again: a kill now loses nothing
                self._stream.seek(kept)
            if not kept:
                self.add(head)
            self._open = stack.pop_all()

    def add(self, lines: bytes) -> None:
        """Write lines, each with its end of line; they are in the file when this returns.

        Raises:
            StorageError: the file system refused.
        """
        with storage_errors(self._place, GOES_ON):
            self._stream.write(lines)
            self._stream.flush()

    def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        def telling() -> AbstractContextManager[None]:
            return contextlib.suppress(OSError) if error else storage_errors(self._place, GOES_ON)

        with telling():  # what a full disk did not take is tried again here: the first error is the one to tell
            self._stream.close()
        with telling():
            unneeded = not self.path.stat().st_size if error else self._passing
            if unneeded:
                self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)
