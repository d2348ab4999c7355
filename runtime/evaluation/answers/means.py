"""Means over the rows of a file of items, with intervals over groups of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundles.metrics import each_alone, grouped_all, wilson


def groups_of(rows: Sequence[Mapping[str, Any]], field: str) -> NDArray[np.intp]:
    """(N,) which group each row is of; a row without a group is one of its own."""
    names = [str(row.get(field) or f"\0{place}") for place, row in enumerate(rows)]
    return np.unique(names, return_inverse=True)[1]


def mean_of(
    rows: Sequence[Mapping[str, Any]], field: str, groups: str, *, proportion: bool = False
) -> dict[str, float]:
    """The mean of a number with its 95% bootstrap interval over groups.

    Args:
        rows: at least one.
        field: of the number.
        groups: field of the group.
        proportion: whether the number is 1 or 0: where each row is a group of its own, the interval is then Wilson's.
    """
    values, which = np.array([float(row[field]) for row in rows]), groups_of(rows, groups)

    def mean(chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.array([values[chosen].mean()])

    low, high = grouped_all(mean, which)[:, 0]
    if proportion and each_alone(which):  # the bootstrap is certain where nothing was missed
        low, high = wilson(int(values.sum()), len(rows))
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}
