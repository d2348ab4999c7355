"""Users in the station's database. Each function works within a transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from ...errors import StationError
from ..store.clock import now
from .roles import Role, checked_name, checked_role, folded


@dataclass(frozen=True)
class Account:
    """A user.

    Attributes:
        name: as it was given.
        role: "viewer", "reader" or "admin".
        created: in seconds since 1970.
        changed: when the password was last set.
    """

    name: str
    role: Role
    created: float
    changed: float


def any_users(connection: sqlite3.Connection) -> bool:
    """Whether there are users."""
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM users)").fetchone()[0])


def all_users(connection: sqlite3.Connection) -> list[Account]:
    """By name."""
    rows = connection.execute("SELECT name, role, created, changed FROM users ORDER BY folded")
    return [Account(**dict(row)) for row in rows]


def find(connection: sqlite3.Connection, name: str) -> Account | None:
    """The user of a name, however its letters are written."""
    row = connection.execute(
        "SELECT name, role, created, changed FROM users WHERE folded = ?", (folded(name),)
    ).fetchone()
    return None if row is None else Account(**dict(row))


def known(connection: sqlite3.Connection, name: str) -> Account:
    """The user of a name.

    Raises:
        StationError: there is none.
    """
    found = find(connection, name)
    if found is None:
        raise StationError("there is no user of that name; see `medge station user list`")
    return found


def password_of(connection: sqlite3.Connection, name: str) -> tuple[str, str] | None:
    """A user's name as it was given, and the hash of the password."""
    row = connection.execute("SELECT name, password FROM users WHERE folded = ?", (folded(name),)).fetchone()
    return None if row is None else (row["name"], row["password"])


def add(connection: sqlite3.Connection, name: str, kept: str, role: str) -> Account:
    """Add a user, with the hash of a password.

    Raises:
        StationError: the name or the role can't be taken, or the first user would be no admin.
    """
    name, role = checked_name(name), checked_role(role)
    if find(connection, name) is not None:
        raise StationError(f"there is a user {name!r} already, or one whose name looks the same; choose another")
    if role != "admin" and not any_users(connection):
        raise StationError("the first user has to be an admin; add one with --role admin")
    made = Account(name, role, now(), now())
    connection.execute(
        "INSERT INTO users (name, folded, password, role, created, changed) VALUES (?, ?, ?, ?, ?, ?)",
        (name, folded(name), kept, role, made.created, made.changed),
    )
    return made


def remove(connection: sqlite3.Connection, name: str, *, unlock: bool) -> Account:
    """Remove a user with the sessions.

    Args:
        connection: of a transaction.
        name: the user's.
        unlock: also the last user, after which the station lets everybody on its machine in.

    Raises:
        StationError: there is no such user, or it is the last admin.
    """
    found = known(connection, name)
    admins = [one for one in all_users(connection) if one.role == "admin"]
    last = len(all_users(connection)) == 1
    if found.role == "admin" and len(admins) == 1 and not (last and unlock):
        way = (
            "--unlock removes it, and the station then lets in everybody on its machine"
            if last
            else "add another first"
        )
        raise StationError(f"{found.name} is the last admin; {way}")
    connection.execute("DELETE FROM users WHERE name = ?", (found.name,))
    if last:  # tokens of before are nobody's when users come again
        connection.execute("DELETE FROM tokens")
    return found


def set_password(connection: sqlite3.Connection, name: str, kept: str) -> None:
    """Set the hash of a user's password, and end the sessions that began with the old one."""
    connection.execute("UPDATE users SET password = ?, changed = ? WHERE name = ?", (kept, now(), name))
    connection.execute("DELETE FROM sessions WHERE user = ?", (name,))
