"""The tables of an index file, and what SQLite says of it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import GOES_ON, IndexFileError, StorageError, one_line

VERSION = "3"  # the hashes of the graph and of the images stand beside them
# What a file must hold, to the letter: a view, a trigger or another column is none of ours.
TABLES = {
    "facts": "CREATE TABLE facts (key TEXT PRIMARY KEY, value)",
    "items": "CREATE TABLE items (id INTEGER PRIMARY KEY, path TEXT UNIQUE, vector BLOB)",
}
# What SQLite says of the place where a file lies, rather than of the file.
_REFUSED = {
    sqlite3.SQLITE_FULL: "no space left", sqlite3.SQLITE_IOERR: "the disk refuses",
    sqlite3.SQLITE_READONLY: "the file can't be written", sqlite3.SQLITE_CANTOPEN: "the file can't be written",
    sqlite3.SQLITE_BUSY: "another program holds it",
}  # fmt: skip


@contextlib.contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """What SQLite says of an index file, in medge's words."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if reason := _REFUSED.get(getattr(error, "sqlite_errorcode", 0) & 0xFF):
            raise StorageError(f"writing {path}: {reason}; {GOES_ON}") from error
        raise IndexFileError(f"{path} is no index, or damaged ({one_line(error)})") from error


def tables_of(connection: sqlite3.Connection) -> dict[str, str]:
    """{name: the statement that made it}; empty where they are no text."""
    made = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    try:
        return dict(connection.execute(made).fetchall())
    except UnicodeDecodeError:  # SQLite's complaint quotes a damaged statement
        return {}


def make_tables(path: Path, facts: Mapping[str, str]) -> None:
    """Create an index file without images.

    Args:
        path: the file, which is not there.
        facts: what the index says of itself, beside its version.

    Raises:
        StorageError: it can't be written.
    """
    with sqlite_errors(path), contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in TABLES.values():
            connection.execute(statement)
        rows = [("version", VERSION), *facts.items()]
        connection.executemany("INSERT INTO facts VALUES (?, ?)", rows)


def forget_journal(path: Path) -> None:
    """Let SQLite undo what a killed `add` left half-done in a file that is about to go: it would do so to the new file."""
    journal = path.with_name(f"{path.name}-journal")
    if journal.exists():
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as old:
            old.execute("SELECT count(*) FROM sqlite_master").fetchone()
        journal.unlink(missing_ok=True)
