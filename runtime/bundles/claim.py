"""Who is writing a place: one process at a time, known by a lock that ends with the process, whatever ends it.

A claim is a small hidden file beside the place, locked by the system. It says nothing of process numbers, host names or
clocks, so that neither a number that is used again nor a clock that jumps makes a dead run look alive, or a live one dead.
The file goes when the claim ends; one that a killed process left is locked by nobody, and the next claim takes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from ..errors import PlaceTakenError, storage_errors

SUFFIX = ".claim"
# (place, thread): work that has claimed a place may write it by what claims it again.
_held: set[tuple[Path, int]] = set()


@contextlib.contextmanager
def claimed(place: Path) -> Iterator[None]:
    """Be the only one who writes `place` while the block runs; folders above it are made.

    Raises:
        PlaceTakenError: another process, or another thread of this one, is writing there.
        StorageError: the file system refused.
    """
    place = place.absolute()
    key = (place, threading.get_ident())
    if key in _held:
        yield
        return
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock(_claim_file(place))
    if handle is None:
        raise PlaceTakenError(
            f"{place} is being written by another medge; wait until it has ended, or choose another place"
        )
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        _unlock(_claim_file(place), handle)


@contextlib.contextmanager
def temporary_name(final: Path, kind: str) -> Iterator[Path]:
    """A hidden name beside `final` that nobody else has; what lies there when the block ends is removed.

    What runs that ended without removing theirs have left for the same `final` is removed first; of a run that goes on,
    nothing is.

    Args:
        final: what the work is for.
        kind: a word for the name: "partial", "scratch".
    """
    final = final.absolute()
    _remove_left(final, kind)
    while True:
        place = final.parent / f".{final.name}.{kind}-{secrets.token_hex(4)}"
        if not place.exists() and (handle := _lock(_claim_file(place))) is not None:
            break
    try:
        yield place
    finally:
        remove(place)
        _unlock(_claim_file(place), handle)


@contextlib.contextmanager
def scratch_folder(final: Path | None = None) -> Iterator[Path]:
    """A folder for what is needed on the way to a result; a run that was killed leaves it to the next to remove.

    Args:
        final: the result, beside which the folder stands; where None, it stands in the system's folder for temporary files.

    Raises:
        StorageError: the file system refused.
    """
    # In a folder that others share, each user removes what is their own.
    final = final.absolute() if final else Path(tempfile.gettempdir(), f"medge-{getattr(os, 'getuid', int)()}")
    with storage_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        with temporary_name(final, "scratch") as place:
            place.mkdir(mode=0o700)
            yield place


def _claim_file(place: Path) -> Path:
    return place.with_name(f".{place.name.removeprefix('.')}{SUFFIX}")


def _remove_left(final: Path, kind: str) -> None:
    """Remove what dead runs left under temporary names of `final`; a claim's file may be all that is left."""
    prefix = f".{final.name}.{kind}-"
    names = {name.removesuffix(SUFFIX) for name in os.listdir(final.parent) if name.startswith(prefix)}
    for place in (final.parent / name for name in names):
        with contextlib.suppress(OSError):  # another user's, where several share a folder
            if (handle := _lock(_claim_file(place))) is not None:
                remove(place)
                _unlock(_claim_file(place), handle)


def remove(place: Path) -> None:
    """Remove a file or a folder, as far as the system lets."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            place.unlink()


def _lock(path: Path) -> int | None:
    """Lock a claim's file, made where it is missing; None where another has it.

    Between opening and locking, its holder may have ended and removed the file: then the lock is on a file that nobody
    else will find, and a new one is made.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            if not _try_lock(handle):
                os.close(handle)
                return None
            if _is(path, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _unlock(path: Path, handle: int) -> None:
    if os.name == "nt":  # an open file can't be removed there
        os.close(handle)
    with contextlib.suppress(OSError):
        path.unlink()
    if os.name != "nt":  # the lock ends after the name is gone, so that nobody locks a file that is about to go
        os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EDEADLK):
                return False
            raise
        return True

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
