"""Logits to probabilities, in double precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float64]


def softmax(logits: Logits) -> Logits:
    """Softmax over the last axis; of minus infinity it makes 0."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def sigmoid(logits: Logits) -> Logits:
    """Element-wise logistic function."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -700, 700))))
