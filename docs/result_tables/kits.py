"""Tables of kits: how large updates are, and what was killed while one was put in."""

from __future__ import annotations

import json
from typing import Any

from .form import RESULTS, table

JOBS = ("install", "update", "rollback")


def updates() -> str:
    """What each change carries, by component."""
    found = json.loads((RESULTS / "kit_updates.json").read_text())
    lines = []
    for row in found["rows"]:
        carried = sorted(((size, name) for name, (size, _) in row["components"].items() if size), reverse=True)
        most = ", ".join(f"{name} {size / 1e6:.2f}" for size, name in carried) or "–"
        share = row["carried_bytes"] / row["whole_bytes"]
        lines.append([
            row["what"], f"{row['carried_bytes'] / 1e6:.2f}", f"{row['whole_bytes'] / 1e6:.1f}", f"{100 * share:.1f}%",
            f"{row['carried_files']:,} of {row['files']:,}", f"{row['statement_bytes'] / 1e6:.2f}", most,
        ])  # fmt: skip
    return table(["update", "MB", "whole kit, MB", "share", "files", "statement, MB", "contents, MB"], lines)


def killed() -> str:
    """What was tried by command, and how often something was wrong."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in (RESULTS / "kit_kills.jsonl").read_text().splitlines()]

    def line(name: str, mine: list[dict[str, Any]]) -> list[str]:
        timed = sum("seconds" in row for row in mine)
        operations = max(row["operations"] for row in mine)
        wrong = sum(bool(row["problems"]) for row in mine)
        return [name, str(operations), str(len(mine) - timed), str(timed), str(wrong)]

    lines = [line(name, [row for row in rows if row["command"] == name]) for name in JOBS]
    total = [str(sum(int(one[column]) for one in lines)) for column in (2, 3, 4)]
    head = ["command", "operations", "killed before one", "killed after a time", "wrong"]
    said = table(head, [*lines, ["all", "", *total]])
    return f"{len(rows)} moments, last on {max(row['date'] for row in rows)}.\n\n{said}"
