"""What a model that reads reports finds in a written report and in the radiologist's, and the figures of that.

What it finds is kept as numbers in a file of its own beside the items, so that a finished run can be read afterwards without any
report being written anew. The models need PyTorch, and stand in the export room; here is what they find and what it means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...bundles.metrics import grouped_all
from ..answers.means import groups_of

Floats = NDArray[np.float64]
Numbers = dict[str, float | None]  # {column: what was found}, of a report and the radiologist's
Rows = Sequence[Mapping[str, Any]]  # of the file of items, with the columns of a reading


@dataclass(frozen=True)
class Reading:
    """A kind of model that reads reports.

    Attributes:
        protocol: what it is, what its figures are, and whose definition that is.
        columns: what it finds in a report and the radiologist's: numbers, or nothing.
        figures: F names.
        counts: (N, K) of N rows, what the figures are made of; these are sums over rows.
        values: the figures, (F + L,), of the (K,) sums; the last are those of the findings.
        findings: L names of findings that have a figure each, an F1.
        said: (N, L, 2) of N rows, whether a report has each finding: the radiologist's, then the model's.
    """

    protocol: str
    columns: tuple[str, ...]
    figures: tuple[str, ...]
    counts: Callable[[Rows], Floats]
    values: Callable[[Floats], Floats]
    findings: tuple[str, ...] = ()
    said: Callable[[Rows], NDArray[np.bool_]] = field(default=lambda rows: np.zeros((len(rows), 0, 2), bool))


class Reader(Protocol):
    """Such a model, not opened yet."""

    @property
    def name(self) -> str:
        """Of its kind, one of `READINGS`."""
        ...

    @property
    def identity(self) -> str:
        """A hash of all that its findings depend on."""
        ...

    def check(self) -> None:
        """Refuse what `open` would refuse; before any report is written, which may take hours."""
        ...

    def open(self) -> Callable[[str, str], Numbers]:
        """What takes a model's report and the radiologist's, and gives the columns of its kind."""
        ...


def told_of(reading: Reading, rows: Rows) -> dict[str, Any]:
    """The figures of the rows with their 95% intervals over patients, for JSON.

    Args:
        reading: the kind of reader.
        rows: at least one.

    Returns:
        {"figures": {name: interval}, "labels": {finding: {"count", "said", "f1"}}}: in how many of the radiologists' reports and
        of the model's the finding is.
    """
    counts = reading.counts(rows)
    low, high = grouped_all(lambda chosen: reading.values(counts[chosen].sum(0)), groups_of(rows, "group"))
    told = [
        {"value": float(value), "low": float(least), "high": float(most)}
        for value, least, most in zip(reading.values(counts.sum(0)), low, high, strict=True)
    ]
    total = reading.said(rows).sum(0)
    labels = {
        finding: {"count": int(right), "said": int(said), "f1": figure}
        for finding, (right, said), figure in zip(reading.findings, total, told[len(reading.figures) :], strict=True)
    }
    return {"figures": dict(zip(reading.figures, told, strict=False)), "labels": labels}


def number(cell: Any) -> float:
    """A cell of a file of results; NaN of one that is empty."""
    return float("nan") if cell in (None, "") else float(cell)
