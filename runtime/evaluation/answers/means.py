"""Means over the rows of a file of items, with intervals over groups of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundles import metrics
from ...bundles.metrics import group_numbers


def groups_of(rows: Sequence[Mapping[str, Any]], field: str) -> NDArray[np.intp]:
    """(N,) which group each row is of; a row without a group is one of its own."""
    return group_numbers([str(row.get(field) or "") for row in rows])


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
    if proportion:
        low, high = metrics.proportion(values == 1, which)
    else:
        low, high = metrics.grouped(lambda chosen: float(values[chosen].mean()), which)
    return {"value": float(values.mean()), "low": low, "high": high}
