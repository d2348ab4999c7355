"""Sums of outer products: what second moments and Hessians are."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Name = TypeVar("Name", bound=Hashable)

STRIP = 256  # columns at once: their products with the others stay in a core's cache until they are added


class OuterProducts:
    """The sum of rows' outer products with themselves, X.T @ X.

    Only what lies on the diagonal or above it is added up, which is half of the work.

    Args:
        columns: of the rows.
    """

    def __init__(self, columns: int) -> None:
        self._sums = np.zeros((columns, columns), np.float32)

    def add(self, rows: NDArray[np.float32]) -> None:
        """Add those of further rows, (N, columns)."""
        for start in range(0, len(self._sums), STRIP):
            self._sums[start : start + STRIP, start:] += rows[:, start : start + STRIP].T @ rows[:, start:]

    def total(self) -> NDArray[np.float32]:
        """The sum so far, (columns, columns); further rows change the array."""
        for start in range(0, len(self._sums), STRIP):
            end = start + STRIP
            self._sums[end:, start:end] = self._sums[start:end, end:].T
        return self._sums


def mean_products(batches: Iterable[Mapping[Name, NDArray[Any]]]) -> dict[Name, NDArray[np.float32]]:
    """X.T @ X / rows of each tensor's rows X over all batches, (C, C) float32: the Hessian of a layer's squared error.

    Args:
        batches: {name: (..., C)}.
    """
    sums: dict[Name, OuterProducts] = {}
    rows: dict[Name, int] = {}
    for batch in batches:
        for name, value in batch.items():
            flat = np.asarray(value.reshape(-1, value.shape[-1]), np.float32)
            sums.setdefault(name, OuterProducts(flat.shape[1])).add(flat)
            rows[name] = rows.get(name, 0) + len(flat)
    return {name: one.total() / np.float32(max(rows[name], 1)) for name, one in sums.items()}
