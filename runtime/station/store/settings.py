"""Settings of a station: small values by key, as JSON. Each function works within a transaction."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

STATION = "station"  # a random word, by which a backup knows whose it is


def get_setting(connection: sqlite3.Connection, key: str, default: Any = None) -> Any:
    """A setting's value, or `default` where it was never set."""
    row = connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
    return default if row is None else json.loads(row["value"])


def set_setting(connection: sqlite3.Connection, key: str, value: Any) -> None:
    """Set a value that JSON can hold."""
    connection.execute(
        "INSERT INTO settings VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, json.dumps(value, ensure_ascii=False)),
    )
