"""Files that are read before an engine sees them, and refused where medge could not have written them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BundleError, one_line

MAX_REASON = 300  # characters; a name in a file can be as long as it likes


class MalformedError(ValueError):
    """Bytes that are not of the kind that was expected; the message says why."""


@contextmanager
def mapped(path: Path, kind: str, read_as: str) -> Iterator[mmap.mmap]:
    """A file's bytes; what is found wrong with them, a `MalformedError`, becomes one sentence.

    Args:
        path: the file.
        kind: of file, for that sentence.
        read_as: the same for one that can't be read at all.

    Raises:
        BundleError: it can't be read, or what was done with it raised `MalformedError`.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except MalformedError as error:
        raise BundleError(
            f"{path} is no {kind} file of medge: {one_line(error, MAX_REASON)}; copy or export it again"
        ) from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: can't be read as {read_as} ({error}); copy or export it again") from error
