"""The tables that tell a comparison in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ....console.terminal import out, warn
from ....evaluation.pages.words import figure_text
from ..told import interval_text, number_text

if TYPE_CHECKING:
    from rich.table import Table


def tell(facts: Mapping[str, Any]) -> None:
    """Print a line a run, and, of two runs, what changed from the one to the other."""
    first, *others = facts["results"]
    for result in others:
        counts = result["against_first"]["items"]
        if counts["only_in_first"] or counts["only_in_this"]:
            warn(
                f"{result['out']}: {counts['only_in_this']} items are in it only, {counts['only_in_first']} in {first['out']} "
                f"only; its difference is over the {counts['in_both']} in both"
            )
    out.print(_by_run(facts))
    out.print(facts["choice"]["said"], soft_wrap=True)
    if len(others) == 1:
        out.print(_by_figure(others[0]["against_first"], [result["name"] for result in facts["results"]]))
        if (flips := _flips(others[0]["against_first"])) is not None:
            out.print(flips)


def _by_run(facts: Mapping[str, Any]) -> Table:
    from rich.table import Table

    headline, results = facts["headline"], facts["results"]
    title = f"{facts['task']['name']}, {facts['task']['method']}: {results[0]['evaluated']} items"
    table = Table(title=title)
    table.add_column("run", overflow="fold")  # a name is never cut off
    for column in (figure_text(headline), "to the first", "MB", "peak MB", "s an item", "parity"):
        table.add_column(column)
    for result in results:
        figure, against = result["figures"][headline], result["against_first"]
        table.add_row(
            result["name"],
            _with_interval(figure),
            _with_interval(against["figures"][headline], signed=True) if against else "",
            f"{result['bytes'] / 1e6:.1f}",
            "-" if result["peak_bytes"] is None else f"{result['peak_bytes'] / 1e6:.0f}",
            number_text(result["seconds_an_item"]),
            result["parity"],
        )
    return table


def _by_figure(against: Mapping[str, Any], names: list[str]) -> Table:
    from rich.table import Table

    table = Table("figure")
    for name in names:
        table.add_column(name, overflow="fold")
    table.add_column("difference")
    table.add_column("95% interval", no_wrap=True)
    for name, figure in against["figures"].items():
        table.add_row(
            figure_text(name), number_text(figure["first"]), number_text(figure["second"]), _signed(figure["value"]),
            interval_text(figure),
        )  # fmt: skip
    return table


def _flips(against: Mapping[str, Any]) -> Table | None:
    """The answers that changed, in all and by label; None where there are none that are right or wrong."""
    from rich.table import Table

    rows = [("all", against["answers"])] if against["answers"] else []
    rows += [(label, found["answers"]) for label, found in against["labels"].items()]
    if not rows:
        return None
    table = Table("answers", "items", "right to wrong", "wrong to right", "wrong to other wrong", "p (McNemar)")
    for label, row in rows:
        counts = (row[name] for name in ("count", "right_to_wrong", "wrong_to_right", "wrong_to_other_wrong"))
        table.add_row(label, *map(str, counts), f"{row['p']:.3g}")
    return table


def _with_interval(figure: Mapping[str, float | None], *, signed: bool = False) -> str:
    value = _signed(figure["value"]) if signed else number_text(figure["value"])
    return value if figure["low"] is None else f"{value}\n{interval_text(figure)}"  # for terminals of 80 columns


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
