"""Tokens, with which programs enter. Of a token the database holds a hash; its words are told once. Each function works within
a transaction."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from dataclasses import dataclass

from ...errors import StationError
from .roles import TOKEN, Role, User, checked_name, checked_role, folded

PREFIX = "medge_"  # by which a scanner for secrets, or a person, knows one
_DAY = 86400.0
_SEEN_EVERY = 3600.0  # seconds between two notes of a token's last use


@dataclass(frozen=True)
class Token:
    """A token, without its words.

    Attributes:
        name: what it is for.
        role: "viewer", "reader" or "admin".
        created: in seconds since 1970.
        ends: when it is no longer taken; None where never.
        used: when it was last used, within an hour; None where never.
    """

    name: str
    role: Role
    created: float
    ends: float | None
    used: float | None


def hashed(secret: str) -> str:
    """What is kept of a secret of 256 random bits: SHA-256 is enough, since nobody can guess what was hashed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def all_tokens(connection: sqlite3.Connection) -> list[Token]:
    """By name."""
    rows = connection.execute("SELECT name, role, created, ends, used FROM tokens ORDER BY folded")
    return [Token(**dict(row)) for row in rows]


def add(connection: sqlite3.Connection, name: str, role: str, days: int | None, at: float) -> tuple[Token, str]:
    """Add a token.

    Args:
        connection: of a transaction.
        name: what it is for.
        role: what it may do.
        days: after how many it ends; None for never.
        at: now, in seconds since 1970.

    Returns:
        It and its words, which are kept nowhere.

    Raises:
        StationError: the name or the role can't be taken.
    """
    name, role = checked_name(name), checked_role(role)
    if connection.execute("SELECT 1 FROM tokens WHERE folded = ?", (folded(name),)).fetchone():
        raise StationError(f"there is a token {name!r} already; remove it first, or choose another name")
    secret = PREFIX + secrets.token_urlsafe(32)
    made = Token(name, role, at, None if days is None else at + days * _DAY, None)
    connection.execute(
        "INSERT INTO tokens (name, folded, hash, role, created, ends, used) VALUES (?, ?, ?, ?, ?, ?, NULL)",
        (name, folded(name), hashed(secret), role, at, made.ends),
    )
    return made, secret


def remove(connection: sqlite3.Connection, name: str) -> str:
    """Remove a token; its name as it was given.

    Raises:
        StationError: there is none of that name.
    """
    row = connection.execute("SELECT name FROM tokens WHERE folded = ?", (folded(name),)).fetchone()
    if row is None:
        raise StationError("there is no token of that name; see `medge station token list`")
    connection.execute("DELETE FROM tokens WHERE name = ?", (row["name"],))
    return str(row["name"])


def holder(connection: sqlite3.Connection, secret: str, at: float) -> tuple[User, bool] | None:
    """Whose token it is, and whether its use should be noted (`seen`); None where it is nobody's or has ended."""
    row = connection.execute(
        "SELECT name, role, ends, used FROM tokens WHERE hash = ?", (hashed(secret),)
    ).fetchone()  # found by its hash: how long that takes tells nothing of the secret
    if row is None or (row["ends"] is not None and row["ends"] <= at):
        return None
    return User(f"{TOKEN}{row['name']}", row["role"]), abs(at - (row["used"] or 0)) > _SEEN_EVERY


def seen(connection: sqlite3.Connection, secret: str, at: float) -> None:
    """Note that a token was used."""
    connection.execute("UPDATE tokens SET used = ? WHERE hash = ?", (at, hashed(secret)))
