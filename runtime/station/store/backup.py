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

from ...bundles.atomic import atomic_file, atomic_folder, replace_file
from ...bundles.claim import claimed, temporary_name
from ...errors import StationError
from ...progress import Progress, no_progress
from .database import Database, told
from .objects import DEFAULT_SPACE, Objects, refusing_when_full

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
    with claimed(to / DATABASE):
        if to.exists() and not (to / DATABASE).exists() and any(_others(to)):
            raise StationError(f"{to} is neither empty nor a backup; choose another folder")
        with refusing_when_full(), temporary_name(to / DATABASE, "partial") as partial:
            database.copy(partial)
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
        StationError: the backup is damaged, or incomplete; the message names what.
        StorageError: `to` exists, or the file system refused.
    """
    source = backup / DATABASE
    if not source.is_file():
        raise StationError(f"{backup} holds no backup of a station")
    with atomic_folder(to) as partial:
        with refusing_when_full(), source.open("rb") as stream:
            _write(stream.read, partial / DATABASE)
        with told(source), contextlib.closing(sqlite3.connect(partial / DATABASE)) as connection:
            said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise StationError(f"{source} is damaged; use an older backup")
        place = Objects(backup, DEFAULT_SPACE).place
        return _copy(partial / DATABASE, place, partial, progress)


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
