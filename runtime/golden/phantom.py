"""Drawn pictures that every machine makes alike, by integer arithmetic: a runtime in another language needs no picture files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# (height, width) of golden pictures: up, down, square, tall, wide, odd, one pixel, one row, one column, a tower's own size.
# Pillow resizes along y first where that saves more than twice as much: 188 and 189 rows lie on both sides of that rule
# at a side of 112, 64 and 65 rows at a side of 16.
SHAPES = (
    (28, 28), (64, 64), (150, 97), (112, 112), (7, 300), (300, 7), (257, 128), (188, 150), (189, 150), (1, 1), (64, 40), (65, 40),
    (1, 50), (50, 1),
)  # fmt: skip


def phantom(height: int = 150, width: int = 200) -> NDArray[np.uint8]:
    """A synthetic picture with edges, gradients and noise, (H, W, 3): the same bytes wherever it is computed."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    disc = ((x - width // 3) ** 2 + (y - height // 2) ** 2 < (height // 3) ** 2) * 120
    ramp = (x * 255) // width
    noise = (x * 1103515245 + y * 12345 + x * y * 69069) >> 7 & 31
    grey = np.clip(disc + ramp // 2 + noise, 0, 255)
    return np.stack([grey, np.clip(grey + (y * 40) // height, 0, 255), 255 - grey], -1).astype(np.uint8)


def phantom_16(height: int, width: int) -> NDArray[np.uint16]:
    """`phantom` in 16 bits, (H, W, 3), with low bytes of their own; sums beyond 65535 start again at 0."""
    low = np.arange(width, dtype=np.uint16)[None, :, None] % 97
    return phantom(height, width).astype(np.uint16) * 257 + low
