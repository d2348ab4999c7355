"""Which studies a station lets go of: those that are too old, and the oldest where space is short. Never one with open work."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from .clock import EARLIEST

_DAY = 86_400.0


@dataclass(frozen=True)
class Retention:
    """How long a station keeps studies; None does not limit.

    Attributes:
        days: after which a study goes, counted from its last object.
        bytes: of all objects together, beyond which the oldest go.
        free: bytes that are to be free above the station's reserve, below which the oldest go.
    """

    days: float | None = None
    bytes: int | None = None
    free: int | None = None


def too_old(connection: sqlite3.Connection, days: float, at: float) -> list[str]:
    """UIDs of studies whose last object came longer ago than some days; none of them has an open job.

    A clock can jump. Where the newest object came after `at`, the clock went back, and nothing is too old; what came before
    2026 has no age.
    """
    newest = connection.execute("SELECT coalesce(max(received), 0) FROM instances").fetchone()[0]
    if newest > at:
        return []
    return [uid for uid, last in _oldest(connection) if EARLIEST <= last < at - days * _DAY]


def oldest_over(connection: sqlite3.Connection, surplus: int) -> list[str]:
    """UIDs of the oldest studies that have together at least `surplus` bytes, or of all; none of them has an open job."""
    found: list[str] = []
    for uid, _ in _oldest(connection):
        if surplus <= 0:
            break
        found.append(uid)
        surplus -= connection.execute(
            "SELECT coalesce(sum(bytes), 0) FROM instances JOIN series ON series.uid = instances.series WHERE study = ?",
            (uid,),
        ).fetchone()[0]
    return found


def _oldest(connection: sqlite3.Connection) -> list[tuple[str, float]]:
    """(UID, when the last object came) of studies without an open or parked job, the oldest first."""
    rows = connection.execute(
        """
        SELECT studies.uid, max(instances.received) AS last
        FROM studies JOIN series ON series.study = studies.uid JOIN instances ON instances.series = series.uid
        WHERE NOT EXISTS (
            SELECT 1 FROM jobs WHERE jobs.study = studies.uid AND jobs.state IN ('waiting', 'running', 'parked')
        )
        GROUP BY studies.uid ORDER BY last, studies.uid
        """
    )
    return [(row[0], row[1]) for row in rows]


def total_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of all objects, each counted once for each instance."""
    return int(connection.execute("SELECT coalesce(sum(bytes), 0) FROM instances").fetchone()[0])
