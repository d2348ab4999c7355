"""A station's folder copied while it works, and made again from the copy.

A backup is a folder with the database as it was at one moment and every object that it names. A second backup into the same
folder copies what is new. The database is replaced last, so that a backup that was stopped leaves the one before as it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...bundles.atomic import atomic_file, flush_folder, replace_file
from ...bundles.claim import claimed, temporary_name
from ...errors import StationError, storage_errors
from ...progress import Progress, no_progress
from .database import Database, told
from .objects import DEFAULT_SPACE, Objects, refusing_when_full
from .settings import STATION, get_setting

DATABASE = "station.sqlite"
_PIECE = 1 << 20


@dataclass(frozen=True)
class Copied:
    """What a backup or a restored station holds.

    Attributes:
        objects: how many objects.
        bytes: their size.
        new: how many of them were copied now.
    """

    objects: int
    bytes: int
    new: int


def back_up(database: Database, objects: Objects, to: Path, progress: Progress = no_progress) -> Copied:
    """Copy a station into a folder, made where it is missing; objects must not be removed meanwhile.

    Args:
        database: of the station.
        objects: of the station.
        to: an empty folder, or a backup of the same station.
        progress: told of objects.

    Raises:
        StationError: an object is missing or damaged, or the folder holds something else.
        StorageError: the file system refused, or another backup is being written there.
    """
    with storage_errors(to):
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
    with claimed(to / DATABASE), storage_errors(to), refusing_when_full():
        if not (to / DATABASE).exists() and any(_others(to)):
            raise StationError(f"{to} is neither empty nor a backup; choose another folder")
        with temporary_name(to / DATABASE, "partial") as partial:
            database.copy(partial)
            if (to / DATABASE).exists() and _station(to / DATABASE) != _station(partial):
                raise StationError(f"{to} holds a backup of another station; choose another folder")
            (to / "objects").mkdir(mode=0o700, exist_ok=True)
            copied = _copy(partial, objects.place, to, progress)
            replace_file(partial, to / DATABASE)
    return copied


def _others(to: Path) -> Iterator[Path]:
    """What lies in a folder and is not of a first backup that was stopped."""
    return (path for path in to.iterdir() if path.name != "objects" and not path.name.startswith(f".{DATABASE}."))


def restore(backup: Path, to: Path, progress: Progress = no_progress) -> Copied:
    """Make a station's folder from a backup; it appears whole or not at all.

    Args:
        backup: a folder that `back_up` has written.
        to: the new station's folder, which is not there yet.
        progress: told of objects.

    Raises:
        StationError: `to` exists, or the backup is damaged or incomplete; the message names what.
        StorageError: the file system refused.
    """
    source = backup / DATABASE
    if not source.is_file():
        raise StationError(f"{backup} holds no backup of a station")
    to = to.absolute()
    with claimed(to), storage_errors(to), refusing_when_full():
        if to.exists():
            raise StationError(f"{to} exists; choose another place for the station")
        with temporary_name(to, "partial") as partial:
            partial.mkdir(mode=0o700)  # unlike a bundle's, a station's files are nobody else's
            with atomic_file(partial / DATABASE) as database, source.open("rb") as stream:
                _write(stream.read, database)
            with told(source), contextlib.closing(sqlite3.connect(partial / DATABASE)) as connection:
                said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if said != "ok":
                raise StationError(f"{source} is damaged; use an older backup")
            copied = _copy(partial / DATABASE, Objects(backup, DEFAULT_SPACE).place, partial, progress)
            flush_folder(partial)
            partial.rename(to)
            flush_folder(to.parent)
    return copied


def _station(database: Path) -> object:
    """Which station a database is of."""
    with told(database), contextlib.closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        return get_setting(connection, STATION)


def _copy(database: Path, place: Callable[[str], Path], to: Path, progress: Progress) -> Copied:
    """Copy the objects that a database names, those that are not there yet."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        named = dict(connection.execute("SELECT sha256, bytes FROM instances").fetchall())
    new, target = 0, Objects(to, DEFAULT_SPACE)
    for number, (sha256, size) in enumerate(sorted(named.items()), start=1):
        final = target.place(sha256)
        if not final.is_file() or final.stat().st_size != size:
            _copy_one(place(sha256), final, sha256)
            new += 1
        progress("objects", number, len(named))
    if target.folder.is_dir():
        for path in target.folder.glob("??/*"):
            if path.name not in named and not path.name.startswith("."):
                path.unlink()
    return Copied(len(named), sum(named.values()), new)


def _copy_one(source: Path, final: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    try:
        stream = source.open("rb")
    except OSError as error:
        raise StationError(f"the object {sha256} can't be read ({error.strerror}); nothing was replaced") from error
    with stream, refusing_when_full(), atomic_file(final) as partial:

        def read(size: int) -> bytes:
            piece = stream.read(size)
            digest.update(piece)
            return piece

        _write(read, partial)
        if digest.hexdigest() != sha256:
            raise StationError(f"the object {sha256} is damaged: its bytes have changed; nothing was replaced")


def _write(read: Callable[[int], bytes], path: Path) -> None:
    with path.open("wb") as out:
        while piece := read(_PIECE):
            out.write(piece)
