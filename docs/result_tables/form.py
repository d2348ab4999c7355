"""What every table of results needs: where results lie, and how a table is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; all columns but the first stand at the right."""
    return _lines(head, ["---", *["---:"] * (len(head) - 1)], rows)


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown whose columns are texts: all stand at the left."""
    return _lines(head, ["---"] * len(head), rows)


def _lines(head: Sequence[str], marks: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows))


def with_interval(figure: dict[str, float], digits: int = 3) -> str:
    """A figure with its 95% interval."""
    return f"{figure['value']:.{digits}f} [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"


RATIO_NOTE = (
    "A ratio of times is the median of rounds that were run in turns, with its 95% interval; where the interval stayed wide "
    "or the processor's time said something else there is none (`not sure`), and `-` stands where too few rounds were run."
)


def ratio_text(row: dict[str, Any]) -> str:
    """The ratio of times of a benchmark's row to that of its first, as `Measured.facts_beside` has them."""
    if "time_ratio" not in row:
        return "-"
    found = row["time_ratio"]
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})" if found else "not sure"
