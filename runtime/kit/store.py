"""The store's database around a change of the version: copied before its tables are changed, and put back where that fails.

Only the database is copied: the objects beside it are named by their content, and are never changed. It is put back only where
nothing was entered since, which the audit log knows: whatever is done to a study stands in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..bundles.atomic import atomic_file, flush_folder, replace_file
from ..bundles.claim import claimed, remove
from ..errors import KitError, PlaceTakenError, storage_errors
from ..station.store import audit, schema
from ..station.store.backup import DATABASE
from ..station.store.database import told

_WAIT = 30.0  # seconds
_KEPT = 2  # backups


def database_of(store: Path) -> Path | None:
    """The database; None where there is no station yet."""
    path = store / DATABASE
    return path if path.is_file() else None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with told(path), contextlib.closing(sqlite3.connect(path, timeout=_WAIT, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def schema_of(path: Path) -> int:
    """The version of a database's tables.

    Raises:
        StationError: it can't be read, or is another program's.
    """
    with _opened(path) as connection:
        return schema.version(connection, path)


def head_of(path: Path) -> tuple[int, str]:
    """The last entry of a database's audit log.

    Raises:
        StationError: it can't be read.
    """
    with _opened(path) as connection:
        return audit.head(connection)


def count_studies(path: Path) -> int:
    """How many studies a database of any version holds.

    Raises:
        StationError: it can't be read.
    """
    with _opened(path) as connection:
        return int(connection.execute("SELECT count(*) FROM studies").fetchone()[0])


def copy(path: Path, to: Path) -> None:
    """Copy a database as it is at one moment, while others may use it; the copy appears whole or not at all.

    Raises:
        StationError, StorageError: it can't be read or written.
    """
    with storage_errors(to):
        to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic_file(to) as partial:
        _like(path, partial)
        with _opened(path) as source, told(to), contextlib.closing(sqlite3.connect(partial)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it


def backup_of(backups: Path, counter: int) -> Path:
    """Where the database lies as it was before a version."""
    return backups / f"before-{counter}" / DATABASE


def keep_newest(backups: Path) -> None:
    """Remove all but the last two backups."""
    if backups.is_dir():
        numbered = [path for path in backups.iterdir() if path.name.removeprefix("before-").isdecimal()]
        for path in sorted(numbered, key=lambda one: int(one.name.removeprefix("before-")))[:-_KEPT]:
            remove(path)


def must_be_put_back(database: Path, backup: Path) -> bool:
    """Whether a database has other tables than its backup, and nothing was entered since.

    Raises:
        KitError: it has, and something was entered since: the older version can't read it, and the backup lacks it.
        StationError: one of the two can't be read.
    """
    if not backup.is_file() or schema_of(database) == schema_of(backup):
        return False
    now, then = head_of(database), head_of(backup)
    if now != then:
        raise KitError(
            f"{database} has {max(now[0] - then[0], 1)} entries since the update changed its tables, which the version before "
            "can't read; nothing was changed: stay with this version, and ask its makers for a newer one"
        )
    return True


def put_back(backup: Path, database: Path) -> None:
    """Replace a database, which nobody uses, by its backup.

    Raises:
        StationError, StorageError: it can't be read or written.
    """
    with _opened(database) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # a log of the one would be read as the other's
    partial = database.with_name(
        f".{database.name}.put-back"
    )  # one name: nobody else is here, and the next try takes it
    with storage_errors(database):
        shutil.copyfile(backup, partial)
        _like(database, partial)
        replace_file(partial, database)
        flush_folder(database.parent)


def _like(path: Path, new: Path) -> None:
    """Give a file the rights of another: a station's files are its own user's."""
    found = path.stat()
    new.touch()
    new.chmod(0o600)
    if os.name != "nt" and os.geteuid() == 0:
        os.chown(new, found.st_uid, found.st_gid)


def refuse_running(store: Path) -> None:
    """Refuse a store that a station has open.

    Raises:
        KitError: one has.
    """
    if not store.is_dir():
        return
    try:
        with claimed(store / "owner"):
            pass
    except PlaceTakenError as error:
        raise KitError(f"the station of {store} is running; end it, then run the same command again") from error
