"""The station's SQLite file: connections, transactions, and what SQLite refuses in words.

Readers never wait for a writer (write-ahead log); writers take turns. A transaction is on the disk when its block has ended.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from ...errors import StationError, StationFullError
from .schema import STEPS, Step, migrate, version

_WAIT = 30.0  # seconds that a process waits for another's transaction


class Database:
    """One file, used by several threads of this process and by other processes at once.

    Args:
        path: the file; its folder is there.
        make: make the file where it is missing, and bring an older one up to date; otherwise either is refused.
        steps: the migrations; those of this version.

    Raises:
        StationError: the file is missing, older, newer, damaged, or not a station's.
    """

    def __init__(self, path: Path, *, make: bool, steps: tuple[Step, ...] = STEPS) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()  # of `_idle` and `_closed`
        self._writing = threading.Lock()  # SQLite has threads of a process ask again and again; this lock wakes them
        self._closed = False
        if not make and not path.is_file():
            raise StationError(f"{path.parent} holds no station; start one there first")
        if make:
            _touch(path)
        with told(path):
            connection = self._connect()
            try:
                connection.execute("PRAGMA journal_mode = WAL")  # kept by the file
                if make:
                    migrate(connection, path, steps)
                elif (found := version(connection, path)) != len(steps):
                    raise StationError(
                        f"{path} is of version {found}, and this medge uses version {len(steps)}; use the same medge for "
                        "the station and its workers"
                    )
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        for line in ("foreign_keys = ON", "synchronous = FULL", "trusted_schema = OFF", "secure_delete = FAST"):
            connection.execute(f"PRAGMA {line}")
        return connection

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection on which all that the block reads is of one moment.

        Raises:
            StationError: the database can't be read, or is closed.
        """
        with self._borrowed() as connection, told(self.path):
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction: on the disk when the block has ended, undone where it raises. No other writes meanwhile.

        Args:
            durable: wait for the disk. Without, a power cut (not a killed process) may undo it; for signs of life.

        Raises:
            StationFullError: the disk is full.
            StationError: the database can't be written, or is closed.
        """
        with self._writing, self._borrowed() as connection, told(self.path):
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite has undone it by itself where the disk is full
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[sqlite3.Connection]:
        with self._guard:
            if self._closed:
                raise StationError("the station is closed")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            with told(self.path):
                connection = self._connect()
        try:
            yield connection
        finally:
            with self._guard:
                kept = not self._closed and not connection.in_transaction
                if kept:
                    self._idle.append(connection)
            if not kept:
                connection.close()

    def copy(self, to: Path) -> None:
        """Write the database as it is at one moment into a new file, while others go on reading and writing.

        Raises:
            StationFullError: the disk is full.
            StationError: it can't be read or written.
        """
        _touch(to)
        with self._borrowed() as connection, told(to), contextlib.closing(sqlite3.connect(to)) as target:
            connection.backup(target)  # in one step, so that no writer makes it begin again
            target.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it

    def close(self) -> None:
        """Close every connection; those in use close when their block ends."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _touch(path: Path) -> None:
    """Make a file that only its owner reads, where it is missing; SQLite gives its other files the same rights."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Say what SQLite refuses in a sentence about `path`; never with a value that is stored."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a fault of medge's own
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise StationFullError(f"{path}: no space left; what was stored before is safe") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StationError(f"{path} is damaged; restore the station from its backup") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StationError(f"{path} has been in use by another process for {_WAIT:.0f} s; try again") from error
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise StationError(f"{path} can't be read or written ({error}); look at the disk and its rights") from error
        raise
