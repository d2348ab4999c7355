"""Tables of what was killed at random moments: a line of a campaign's file is a moment."""

from __future__ import annotations

import json
from typing import Any

from .form import RESULTS, table

Rows = list[dict[str, Any]]
SIGNALS = ("SIGKILL", "SIGTERM", "Ctrl-C")
VICTIMS = ("station", "worker", "both")


def commands() -> str:
    """What was tried by command and signal, and how often something was wrong."""
    rows = _moments("kills")

    def line(name: str, mine: Rows) -> list[str]:
        return [name, *(str(sum(row["signal"] == one for row in mine)) for one in SIGNALS), str(_wrong(mine))]

    names = sorted({row["command"] for row in rows})
    lines = [line(name, [row for row in rows if row["command"] == name]) for name in names]
    return _told(rows, table(["command", *SIGNALS, "wrong"], [*lines, line("all", rows)]))


def station() -> str:
    """What was tried by which of a station's processes was killed."""
    rows = _moments("station_kills")

    def line(name: str, mine: Rows) -> list[str]:
        again = sum(row["again"] for row in mine)
        objects = sum(row["objects"] for row in mine)
        return [name, str(len(mine) - again), str(again), str(objects), str(_wrong(mine))]

    lines = [line(name, [row for row in rows if row["victim"] == name]) for name in VICTIMS]
    head = ["killed", "once", "again while it started", "objects", "wrong"]
    return _told(rows, table(head, [*lines, line("all", rows)]))


def _moments(name: str) -> Rows:
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines()]


def _wrong(rows: Rows) -> int:
    return sum(bool(row["problems"]) for row in rows)


def _told(rows: Rows, lines: str) -> str:
    return f"{len(rows)} moments, last on {max(row['date'] for row in rows)}.\n\n{lines}"
