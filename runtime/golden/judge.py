"""What replayed results are held against."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundles.facts import GoldenBound


def judge_cosines(what: str, cosines: NDArray[np.floating[Any]], bound: GoldenBound) -> tuple[str, float, float, bool]:
    """What was compared, the least or mean cosine, its bound, and whether it holds."""
    name, value = {"min": ("least", cosines.min()), "mean": ("mean", cosines.mean())}[bound.statistic]
    return f"{what}: {name} cosine", float(value), bound.cosine, bool(value >= bound.cosine)
