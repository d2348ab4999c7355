"""A drawn picture that every machine makes alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass


def phantom(height: int = 150, width: int = 200) -> NDArray[np.uint8]:
    """A synthetic picture with edges, gradients and noise, (H, W, 3): the same bytes wherever it is computed."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    disc = ((x - width // 3) ** 2 + (y - height // 2) ** 2 < (height // 3) ** 2) * 120
    ramp = (x * 255) // width
    noise = (x * 1103515245 + y * 12345 + x * y * 69069) >> 7 & 31
    grey = np.clip(disc + ramp // 2 + noise, 0, 255)
    return np.stack([grey, np.clip(grey + (y * 40) // height, 0, 255), 255 - grey], -1).astype(np.uint8)
