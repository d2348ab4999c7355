"""The folder of objects: each file is named by the SHA-256 of its bytes, so that nothing from outside becomes a path.

An object arrives under a temporary name in `arriving/`, is flushed to the disk, and gets its name within the transaction that
enters it in the database. A file that no entry names was never acknowledged, and `remove_strays` removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...bundles.atomic import flush_folder
from ...errors import ObjectRefusedError, StationError, StationFullError

_NAME = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def free_bytes(folder: Path) -> int:
    """Bytes that the disk of a folder still takes."""
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class Arrived:
    """An object that is on the disk under its temporary name.

    Attributes:
        path: where.
        sha256: of its bytes, in hexadecimal.
        bytes: its size.
    """

    path: Path
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Space:
    """What a station takes of its disk.

    Attributes:
        reserve: bytes that objects leave free, for results and the database.
        largest: bytes of the largest object that is taken.
        ballast: bytes of a file that only takes space: it goes where others have filled the disk, since SQLite needs some to
            remove anything.
        free: how many bytes the disk of a folder still takes.
    """

    reserve: int = 512 << 20
    largest: int = 4 << 30
    ballast: int = 8 << 20
    free: Callable[[Path], int] = free_bytes


DEFAULT_SPACE = Space()


class Objects:
    """The files of a station's objects.

    Args:
        folder: the station's folder.
        space: what it takes of its disk.
    """

    def __init__(self, folder: Path, space: Space) -> None:
        self.folder = folder / "objects"
        self.arriving = folder / "arriving"
        self._ballast = folder / "ballast"
        self._space = space

    def prepare(self) -> None:
        """Make the folders that are missing, and remove what was arriving when the station was ended."""
        self.arriving.mkdir(exist_ok=True, mode=0o700)
        for path in self.arriving.iterdir():
            path.unlink(missing_ok=True)
        self.folder.mkdir(exist_ok=True, mode=0o700)
        for number in range(256):
            (self.folder / f"{number:02x}").mkdir(exist_ok=True, mode=0o700)
        flush_folder(self.folder)
        flush_folder(self.folder.parent)
        self.take_ballast()

    def take_ballast(self) -> None:
        """Write the file that only takes space, where it is missing and there is room for it."""
        size = self._space.ballast
        if (self._ballast.exists() and self._ballast.stat().st_size == size) or self.spare() < size:
            return
        try:
            with open(self._ballast, "wb", opener=_private) as out:
                for start in range(0, size, _PIECE):
                    out.write(bytes(min(_PIECE, size - start)))
        except OSError:  # someone else has filled the disk meanwhile
            self.drop_ballast()

    def drop_ballast(self) -> bool:
        """Remove the file that only takes space; whether it was there."""
        return _unlink(self._ballast) > 0

    def place(self, sha256: str) -> Path:
        """Where an object lies.

        Raises:
            StationError: it is no SHA-256.
        """
        if not _NAME.fullmatch(sha256):
            raise StationError("an object is named by the SHA-256 of its bytes, in hexadecimal")
        return self.folder / sha256[:2] / sha256

    @contextlib.contextmanager
    def receive(self, source: bytes | BinaryIO) -> Iterator[Arrived]:
        """Write an object to the disk under a temporary name, which is gone when the block ends.

        Raises:
            StationFullError: the disk is full, or has less than the reserve.
            ObjectRefusedError: it is too large.
        """
        path = self.arriving / secrets.token_hex(16)
        try:
            with refusing_when_full():
                arrived = self._write(path, source)
            yield arrived
        finally:
            path.unlink(missing_ok=True)

    def _write(self, path: Path, source: bytes | BinaryIO) -> Arrived:
        digest, size = hashlib.sha256(), 0
        with open(path, "xb", opener=_private) as out:
            for piece in _pieces(source):
                size += len(piece)
                if size > self._space.largest:
                    raise ObjectRefusedError(
                        f"the object has more than the {self._space.largest} bytes that this station takes"
                    )
                if self._space.free(path.parent) - len(piece) < self._space.reserve:
                    raise StationFullError("the station's disk is full; nothing more is taken until there is space")
                digest.update(piece)
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        return Arrived(path, digest.hexdigest(), size)

    def keep(self, arrived: Arrived) -> None:
        """Give an object its name; within the transaction that enters it, so that none removes it meanwhile.

        Raises:
            StationFullError: the disk is full.
        """
        final = self.place(arrived.sha256)
        with refusing_when_full():
            arrived.path.replace(final)
            flush_folder(final.parent)

    def holds(self, sha256: str) -> bool:
        return self.place(sha256).is_file()

    def spare(self) -> int:
        """Bytes that the disk takes before the reserve is reached; below zero where it is."""
        return self._space.free(self.folder) - self._space.reserve

    def open(self, sha256: str) -> BinaryIO:
        """An object's bytes, to be read.

        Raises:
            StationError: it is not there.
        """
        try:
            return self.place(sha256).open("rb")
        except OSError as error:
            raise StationError(
                f"the object {sha256} can't be read ({error.strerror}); restore it from a backup"
            ) from error

    def remove_unlinked(self, connection: sqlite3.Connection) -> int:
        """Within a transaction, remove the files that no instance names any more; how many bytes."""
        freed = 0
        for (sha256,) in connection.execute("SELECT sha256 FROM unlinked").fetchall():
            if connection.execute("SELECT 1 FROM instances WHERE sha256 = ?", (sha256,)).fetchone() is None:
                freed += _unlink(self.place(sha256))
        connection.execute("DELETE FROM unlinked")
        return freed

    def remove_strays(self, connection: sqlite3.Connection, number: int) -> int:
        """Within a transaction, remove the files of one of the 256 folders that nothing names; how many bytes.

        They are of a process that was ended between a file's name and its entry: none of them was acknowledged.
        """
        prefix = f"{number:02x}"
        named = connection.execute(
            "SELECT sha256 FROM instances WHERE sha256 >= ? AND sha256 < ?", (prefix, f"{prefix}g")
        )
        known = {sha256 for (sha256,) in named}
        return sum(_unlink(path) for path in (self.folder / prefix).iterdir() if path.name not in known)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _unlink(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        size = path.stat().st_size
        path.unlink()
        return size
    return 0


def _pieces(source: bytes | BinaryIO) -> Iterator[bytes | memoryview]:
    if isinstance(source, bytes):
        whole = memoryview(source)
        yield from (whole[start : start + _PIECE] for start in range(0, len(whole), _PIECE))
    else:
        while piece := source.read(_PIECE):
            yield piece


@contextlib.contextmanager
def refusing_when_full() -> Iterator[None]:
    """Turn the system's word that a disk is full into a `StationFullError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StationFullError(f"the station's disk takes no more ({error.strerror}); make space") from error
        raise
