"""A parity report in the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ...runtime.bundles.parity_report import NOT_HELD_BACK, ParityReport
from ...runtime.pages.words import number

_MARKS = {True: Text("pass", "green"), False: Text("FAIL", "red"), None: Text("not measured", "dim")}


def gate_table(report: ParityReport) -> Table:
    """The gates, a row each."""
    on = f"{report.images} images" if report.images else f"{report.texts} texts"
    by = f" by {report.machine['engine']}" if "engine" in report.machine else ""
    title = Text(f"Parity of {report.bundle} with {report.reference} on {on}{by}: {report.verdict}")
    if not report.held_back:
        title.append(f" ({NOT_HELD_BACK})", "yellow")
    table = Table(title=title)
    table.add_column("figure", no_wrap=True)  # names that one may want to copy; intervals can take two lines
    for column in ("measured", "95% interval", "gate", ""):
        table.add_column(column, justify="right" if column == "measured" else "left", overflow="fold")
    for gate in report.gates:
        interval = "" if gate.low is None else f"{number(gate.low)} to {number(gate.high)}"
        mark = Text("warn", "yellow") if gate.warning else _MARKS[gate.passed]
        table.add_row(gate.figure, number(gate.value), interval, f"{gate.sense} {gate.bound:.4g}", mark)
    measured = {gate.figure.split(".")[0]: gate.rests_on for gate in report.gates if gate.rests_on}
    table.caption = "; ".join(f"{name}: {what}" for name, what in measured.items())
    return table
