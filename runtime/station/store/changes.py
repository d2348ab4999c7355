"""Which study or job has changed, in order, for whoever listens. Each function works within a transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """Something that is no longer as it was.

    Attributes:
        id: grows from one change to the next.
        kind: "study" or "job".
        what: the study's UID, or the job's number.
    """

    id: int
    kind: str
    what: str


def newest(connection: sqlite3.Connection) -> int:
    """The number of the last change; 0 before the first."""
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM changes").fetchone()[0])


def after(connection: sqlite3.Connection, number: int, limit: int = 500) -> list[Change]:
    """Changes after one, each study and job with its last one only, in order."""
    rows = connection.execute(
        "SELECT max(id), kind, what FROM (SELECT * FROM changes WHERE id > ? ORDER BY id LIMIT ?) "
        "GROUP BY kind, what ORDER BY max(id)",
        (number, limit),
    )
    return [Change(*row) for row in rows]
