"""Labelled images, as a calibration of scores is fitted and judged on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Labelled:
    """Images with their scores and their truth.

    Attributes:
        embeddings: (N, D) float32, of unit length.
        logits: (N, L) float64, scale * cosine + bias.
        truth: (N, L) float64: 1 where the label holds, 0 where not, NaN where that is not known.
        groups: (N,) the patient of each; equal numbers are one patient.
        kinds: (N,) the kind of picture of each, by its place in `kind_names`.
        kind_names: at least one; "" where kinds are not told apart.
        labels: L of them.
        one: whether each image has exactly one label.
    """

    embeddings: NDArray[np.float32]
    logits: NDArray[np.float64]
    truth: NDArray[np.float64]
    groups: NDArray[np.intp]
    kinds: NDArray[np.intp]
    kind_names: tuple[str, ...]
    labels: tuple[str, ...]
    one: bool

    def __len__(self) -> int:
        return len(self.embeddings)

    def of(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Labelled:
        """Some of the images."""
        return replace(
            self, embeddings=self.embeddings[rows], logits=self.logits[rows], truth=self.truth[rows],
            groups=self.groups[rows], kinds=self.kinds[rows],
        )  # fmt: skip
