"""Who did what, when: a log whose entries each hold the hash of the one before, so that a change or a gap is found.

Someone who may write the file can write a whole new chain. Against that, note the last hash now and then elsewhere (`head`):
a backup holds it, too.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .clock import now

_BEGIN = "0" * 64
# Everything that a station notes. The page says each in the reader's language (`action.…` in page/words).
Action = Literal[
    "sent a study", "sent an object with another patient's number", "sent another object under a known UID", "classified",
    "delivered", "removed", "asked to classify", "asked to report", "asked a model", "cancelled", "tried again",
    "report drafted", "report changed", "report signed", "report released", "report reopened", "logged in", "logged out",
    "login failed", "was refused", "added a user", "removed a user", "set a password", "added a token", "removed a token",
    "unlocked the station", "changed a setting", "backed up", "restored from a backup",
]  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One line of the audit log.

    Attributes:
        id: its number, from 1 without gaps.
        at: when, in seconds since 1970.
        who: a user's name, a device's title, or "station".
        action: one of `Action`; of an entry that another version of medge made, maybe another.
        what: what it was done to: a UID or a job's number; no patient's name.
        detail: more, such as the bundle.
        hash: of this entry and the one before.
    """

    id: int
    at: float
    who: str
    action: str
    what: str
    detail: dict[str, Any]
    hash: str


@dataclass(frozen=True)
class Break:
    """Where the chain does not hold.

    Attributes:
        id: the first entry that does not fit.
        reason: why, in a sentence.
    """

    id: int
    reason: str


def note(
    connection: sqlite3.Connection, who: str, action: Action, what: str = "", detail: Mapping[str, Any] | None = None
) -> None:
    """Add an entry, within a transaction: what it tells of and the entry are both there, or neither is."""
    number, previous = head(connection)
    at, text = now(), json.dumps(dict(detail or {}), sort_keys=True, ensure_ascii=False)
    connection.execute(
        "INSERT INTO audit (id, at, who, action, what, detail, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (number + 1, at, who, action, what, text, previous, _hash(number + 1, at, who, action, what, text, previous)),
    )


def head(connection: sqlite3.Connection) -> tuple[int, str]:
    """The last entry's number and hash; 0 and zeros where there is none."""
    row = connection.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    return (row["id"], row["hash"]) if row else (0, _BEGIN)


def entries(connection: sqlite3.Connection, *, what: str = "", before: int = 0, limit: int = 100) -> list[Entry]:
    """Entries, the newest first.

    Args:
        connection: of a transaction.
        what: only those about this UID or job.
        before: only those with a smaller number; 0 for all.
        limit: how many at most.
    """
    rows = connection.execute(
        "SELECT * FROM audit WHERE (?1 = '' OR what = ?1) AND (?2 = 0 OR id < ?2) ORDER BY id DESC LIMIT ?3",
        (what, before, max(limit, 0)),
    )
    return [
        Entry(row["id"], row["at"], row["who"], row["action"], row["what"], json.loads(row["detail"]), row["hash"])
        for row in rows
    ]


def first_break(connection: sqlite3.Connection) -> Break | None:
    """Where the chain does not hold; None where it does. Reads the whole log."""
    expected, previous = 1, _BEGIN
    for row in connection.execute("SELECT * FROM audit ORDER BY id"):
        if row["id"] != expected:
            return Break(expected, f"entry {expected} is missing; the next one is {row['id']}")
        if row["previous"] != previous:
            return Break(expected, f"entry {expected} does not follow the one before it")
        fields = [row[name] for name in ("id", "at", "who", "action", "what", "detail", "previous")]
        if row["hash"] != _hash(*fields):
            return Break(expected, f"entry {expected} was changed after it was written")
        expected, previous = expected + 1, row["hash"]
    used = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    if used and used["seq"] >= expected:
        return Break(expected, f"the last entries, {expected} to {used['seq']}, are missing")
    return None


def _hash(number: int, at: float, who: str, action: str, what: str, detail: str, previous: str) -> str:
    line = json.dumps([number, at, who, action, what, detail, previous], ensure_ascii=False)
    return hashlib.sha256(line.encode()).hexdigest()
