"""Sums of outer products: what second moments and Hessians are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
