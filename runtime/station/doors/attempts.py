"""Logins that failed, by user and by address: after some, each one more doubles the time until the next may be tried.

What is kept survives a restart. Nobody is locked out for good, so that nobody can be locked out by somebody else for longer
than `MOST_WAIT`. Each function works within a transaction.
"""

from __future__ import annotations

import hashlib
import ipaddress
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from .roles import folded

MOST_WAIT = 300.0  # seconds
FORGOTTEN = 86400.0  # seconds after the last failure
_FIRST_WAIT = 1.0  # seconds


@dataclass(frozen=True)
class Key:
    """Under what failures are counted.

    Attributes:
        text: what stands in the database.
        free: how many may fail before there is a wait.
        cleared: whether a success clears the count; otherwise it takes one off, so that somebody who has a password can't clear
            an address's count by logging in between two guesses at another's.
    """

    text: str
    free: int
    cleared: bool


def keys_of(name: str, address: str) -> tuple[Key, Key]:
    """Of a login. What was typed as a name may be a password: a few digits of its hash are kept, which many words share."""
    typed = hashlib.sha256(folded(name).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return Key(f"user:{typed}", 5, True), Key(f"address:{network_of(address)}", 20, False)


def network_of(address: str) -> str:
    """An address as failures are counted: of IPv6 the network of one household (/64); an IPv4 address in IPv6's form as such."""
    try:
        given = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "none"
    if isinstance(given, ipaddress.IPv6Address):
        if given.ipv4_mapped is not None:
            return str(given.ipv4_mapped)
        return str(ipaddress.ip_network((given, 64), strict=False))
    return str(given)


def begin(connection: sqlite3.Connection, keys: Sequence[Key], at: float) -> float:
    """Begin an attempt: it counts as failed until `succeeded` says otherwise, so that many at once gain nothing.

    Returns:
        Seconds to wait; where above 0 the attempt must not be made, and was not counted.
    """
    connection.execute("DELETE FROM attempts WHERE last < ? OR last > ?", (at - FORGOTTEN, at + FORGOTTEN))
    found = {key: _row(connection, key) for key in keys}
    wait = max(min(until - at, MOST_WAIT) for _, until in found.values())
    if wait > 0:
        return wait
    for key, (count, _) in found.items():
        connection.execute(
            "INSERT INTO attempts (key, count, last, until) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET count = excluded.count, last = excluded.last, until = excluded.until",
            (key.text, count + 1, at, at + wait_after(count + 1, key.free)),
        )
    return 0.0


def wait_after(count: int, free: int) -> float:
    """Seconds to wait after so many failures."""
    return 0.0 if count < free else min(_FIRST_WAIT * 2.0 ** min(count - free, 30), MOST_WAIT)


def waiting(connection: sqlite3.Connection, keys: Sequence[Key], at: float) -> float:
    """Seconds until the next attempt; 0 where it may be made."""
    return max(0.0, *(min(_row(connection, key)[1] - at, MOST_WAIT) for key in keys))


def succeeded(connection: sqlite3.Connection, keys: Sequence[Key]) -> None:
    """The attempt that was begun was right."""
    for key in keys:
        if key.cleared:
            connection.execute("DELETE FROM attempts WHERE key = ?", (key.text,))
        else:
            connection.execute("UPDATE attempts SET count = count - 1, until = 0 WHERE key = ?", (key.text,))


def forget_user(connection: sqlite3.Connection, name: str) -> None:
    """Forget the failures of a user."""
    connection.execute("DELETE FROM attempts WHERE key = ?", (keys_of(name, "")[0].text,))


def _row(connection: sqlite3.Connection, key: Key) -> tuple[int, float]:
    row = connection.execute("SELECT count, until FROM attempts WHERE key = ?", (key.text,)).fetchone()
    return (row["count"], row["until"]) if row else (0, 0.0)
