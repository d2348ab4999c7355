"""What is said about work that takes long."""

from __future__ import annotations

import json
import re

import pytest
from rich.table import Table
from rich.text import Text

from medge.runtime.console import terminal


def test_piped_output_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 0.0, 10.0, 31.0, 40.0, 500.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr(terminal, "err", terminal.SafeConsole(stderr=True))
    lines = terminal._Lines()
    for done in (0, 10, 31, 40, 90):
        lines("images", done, 120)
    assert capfd.readouterr().err.splitlines() == [
        "medge: images: 31 of 120, about 89 s left", "medge: images: 90 of 120, about 3 min left",
    ]  # fmt: skip


@pytest.mark.parametrize(("seconds", "told"), [(4.4, "4 s"), (89, "89 s"), (90, "2 min"), (12000, "3 h 20 min")])
def test_durations(seconds: float, told: str) -> None:
    assert terminal._duration(seconds) == told


BAD = "[/red]:heart: \x1b[2J\x9b31m\x07\r\u202ecod.mlif"
SHOWN = r"[/red]:heart: \x1b[2J\x9b31m\x07\x0d\u202ecod.mlif"


def test_what_a_terminal_would_obey_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names and labels come from files: they are neither markup, nor emoji codes, nor escape sequences."""
    console = terminal.SafeConsole(width=200, force_terminal=True)
    table = Table(title=BAD, caption=BAD)
    table.add_column(BAD)
    table.add_row(BAD)
    table.add_row(BAD, style="red")
    for what in (BAD, Text(BAD), table):
        console.print(what)
    console.print(BAD, markup=False, highlight=False, soft_wrap=True, style="bold")
    printed = capsys.readouterr().out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)  # the console's own colours
    # Of a `Text` the library takes the bell and the return to the line's begin out by itself.
    assert (plain.count(SHOWN), plain.count(SHOWN.replace(r"\x07\x0d", ""))) == (7, 1)
    assert not set(plain) & set("\x1b\x9b\x07\r\u202e")
    monkeypatch.setattr(terminal, "err", terminal.SafeConsole(stderr=True))
    terminal.warn(BAD)
    assert capsys.readouterr().err == f"medge: {SHOWN}\n"
    terminal.write(f"{BAD}\n")
    assert capsys.readouterr().out == f"{SHOWN}\n"
    terminal.print_json({"label": BAD})
    told = capsys.readouterr().out
    assert json.loads(told)["label"] == BAD
    assert not set(told) & set("\x1b\x9b\x07\r\u202e")


def test_a_table_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    uid = "1.2.826.0.1.3680043.8.498.10001000200030004"
    table = Table("study of the patient", "specificity")
    table.add_row(uid, "0.9876 (0.91-0.99)")
    console = terminal.SafeConsole(width=24)
    console.print(table)
    cells = [line.replace("┃", "│").split("│") for line in capsys.readouterr().out.splitlines()]
    rows = [row for row in cells if len(row) == 4]
    assert uid in "".join(row[1].strip() for row in rows)
    assert "specificity" in "".join(row[2].strip() for row in rows)
    assert "…" not in str(rows)
