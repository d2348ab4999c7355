"""Signed 8-bit levels about zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GREATEST = 127


def to_8_bit(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A matrix as levels -127..127, and their scales: one for all numbers along `axis`, which has length one in the scales."""
    scale = np.maximum(np.abs(weight).max(axis=axis, keepdims=True) / GREATEST, 1e-12).astype(np.float32)
    return np.clip(np.rint(weight / scale), -GREATEST, GREATEST).astype(np.int8), scale
