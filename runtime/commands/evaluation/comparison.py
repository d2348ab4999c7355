"""What a comparison of finished runs says, and the tables that tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ...console.terminal import out, warn
from .runs import Run, compared_with
from .told import figure_text, interval_text, number_text

if TYPE_CHECKING:
    from rich.table import Table


def compared(runs: Sequence[Run]) -> dict[str, Any]:
    """Runs, and the difference of each to the first, for JSON.

    Args:
        runs: at least two, of the same task.

    Raises:
        TaskError: they were asked different things, or of different items.
        StorageError: a file of items is damaged.
    """
    first = runs[0].metrics
    return {
        "task": {name: getattr(first.task, name) for name in ("name", "form", "method")},
        "limit": first.limit, "seed": first.seed, "headline": first.task.headline,
        "results": [_told(run, runs[0]) for run in runs],
    }  # fmt: skip


def _told(run: Run, first: Run) -> dict[str, Any]:
    metrics = run.metrics
    return {
        "out": str(run.place), "bundle": metrics.bundle, "recipes": metrics.model.recipes, "bytes": metrics.model.bytes,
        "parity": metrics.model.parity, "seconds_an_item": metrics.seconds_an_item, "evaluated": metrics.items.evaluated,
        "figures": {name: asdict(figure) for name, figure in metrics.figures.items()},
        "against_first": None if run is first else compared_with(first, run),
    }  # fmt: skip


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
    if len(others) == 1:
        out.print(_by_figure(others[0]["against_first"], _names(facts["results"])))
        if (flips := _flips(others[0]["against_first"])) is not None:
            out.print(flips)


def _by_run(facts: Mapping[str, Any]) -> Table:
    from rich.table import Table

    headline, results = facts["headline"], facts["results"]
    title = f"{facts['task']['name']}, {facts['task']['method']}: {results[0]['evaluated']} items"
    table = Table(title=title)
    table.add_column("run", overflow="fold")  # a name is never cut off
    for column in (figure_text(headline), "to the first", "MB", "s an item", "parity"):
        table.add_column(column)
    for name, result in zip(_names(results), results, strict=True):
        figure, against = result["figures"][headline], result["against_first"]
        table.add_row(
            name,
            _with_interval(figure),
            _with_interval(against["figures"][headline], signed=True) if against else "",
            f"{result['bytes'] / 1e6:.1f}",
            number_text(result["seconds_an_item"]),
            result["parity"],
        )
    return table


def _names(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The runs' names: their bundles', or, where two have one name, their folders'."""
    bundles = [result["bundle"] for result in results]
    return bundles if len(set(bundles)) == len(bundles) else [result["out"] for result in results]


def _by_figure(against: Mapping[str, Any], names: Sequence[str]) -> Table:
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
