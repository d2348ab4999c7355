"""Sessions of people: a random word in a cookie, of which the database holds a hash. Each function works within a transaction."""

from __future__ import annotations

import hmac
import secrets
import sqlite3
from dataclasses import dataclass

from .roles import User
from .tokens import hashed

IDLE = 30 * 60.0  # seconds without a request after which a session ends
WHOLE = 12 * 3600.0  # seconds after which it ends in any case: a long shift
MOST = 20  # sessions of one user; one more ends the oldest
_NOTED_EVERY = 60.0  # seconds between two notes of a session's last request
_SLACK = 60.0  # seconds that a clock may be put back


@dataclass(frozen=True)
class Session:
    """A session that goes on.

    Attributes:
        user: whose it is.
        secret: the word in the cookie.
        ends: when it ends at the latest, in seconds since 1970.
        is_due: its last request should be noted (`touch`).
    """

    user: User
    secret: str
    ends: float
    is_due: bool = False

    @property
    def csrf(self) -> str:
        """The word that a page sends in a header beside the cookie, which another site can't read."""
        return csrf_of(self.secret)


def csrf_of(secret: str) -> str:
    """Made of the session's word, so that a new session has a new one and nothing more is kept."""
    return hmac.digest(secret.encode("utf-8", "surrogatepass"), b"medge csrf", "sha256").hex()


def begin(connection: sqlite3.Connection, user: User, at: float) -> Session:
    """Begin a session under a word that nobody knew before."""
    _forget(connection, at)
    connection.execute(
        "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE user = ? ORDER BY began DESC LIMIT -1 OFFSET ?)",
        (user.name, MOST - 1),
    )
    secret = secrets.token_urlsafe(32)
    connection.execute(
        "INSERT INTO sessions (hash, user, began, used) VALUES (?, ?, ?, ?)", (hashed(secret), user.name, at, at)
    )
    return Session(user, secret, at + WHOLE)


def find(connection: sqlite3.Connection, secret: str, at: float) -> Session | None:
    """The session of a cookie; None where there is none or it has ended."""
    row = connection.execute(
        "SELECT users.name, users.role, began, used FROM sessions JOIN users ON users.name = sessions.user WHERE hash = ?",
        (hashed(secret),),
    ).fetchone()
    if row is None or not _goes_on(row["began"], row["used"], at):
        return None
    due = at - row["used"] > _NOTED_EVERY
    return Session(User(row["name"], row["role"]), secret, row["began"] + WHOLE, due)


def touch(connection: sqlite3.Connection, secret: str, at: float) -> None:
    """Note a request."""
    connection.execute("UPDATE sessions SET used = max(used, ?) WHERE hash = ?", (at, hashed(secret)))


def end(connection: sqlite3.Connection, secret: str) -> None:
    """End a session, where there is one."""
    connection.execute("DELETE FROM sessions WHERE hash = ?", (hashed(secret),))


def _goes_on(began: float, used: float, at: float) -> bool:
    """A session of the future was begun by a clock that has been put back: how old it is can't be known."""
    return began - _SLACK <= at < min(began + WHOLE, used + IDLE) and used <= at + _SLACK


def _forget(connection: sqlite3.Connection, at: float) -> None:
    connection.execute("DELETE FROM sessions WHERE began <= ? OR used <= ?", (at - WHOLE, at - IDLE))
