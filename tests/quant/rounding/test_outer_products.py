"""Half of a symmetric sum, and the other half from it."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import FP32_SUMS

from medge.quant.rounding.outer_products import STRIP, OuterProducts


@pytest.mark.parametrize("columns", [1, STRIP - 1, 2 * STRIP + 5])
def test_the_sum_is_that_of_whole_products(columns: int) -> None:
    parts = np.random.default_rng(2).standard_normal((3, 40, columns)).astype(np.float32)
    found = OuterProducts(columns)
    for rows in parts[:2]:
        found.add(rows)
    for until in (2, 3):  # more can be added after a total
        seen = parts[:until].reshape(-1, columns).astype(np.float64)
        total = found.total()
        np.testing.assert_allclose(total, seen.T @ seen, rtol=0, atol=FP32_SUMS * len(seen))
        np.testing.assert_allclose(total, total.T, rtol=0, atol=FP32_SUMS)
        found.add(parts[2])
