"""How far an embedding lies from those that a bundle was calibrated on.

The distance is Mahalanobis', to the nearest of several centres with one covariance for all (Lee et al. 2018, "A Simple
Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks"): the mean embedding of each label in
each kind of picture. Nothing of a single patient is kept, which the embeddings for a search of nearest neighbours would be.
benchmarks/scores.py compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Density:
    """Centres, and the matrix that makes a covariance the identity.

    Attributes:
        whitening: (D, D) float32.
        centres: (K, D) float32, multiplied by `whitening`.
    """

    whitening: NDArray[np.float32]
    centres: NDArray[np.float32]

    @cached_property
    def _wide(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both in double precision, once for all images."""
        return self.whitening.astype(np.float64), self.centres.astype(np.float64)

    def nearest(self, embeddings: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """The distance of each embedding to its nearest centre, and which that is.

        Args:
            embeddings: (N, D), of unit length.

        Returns:
            (N,) distances in standard deviations, (N,) places in `centres`.
        """
        whitening, centres = self._wide
        white = embeddings.astype(np.float64) @ whitening.T
        squares = ((white[:, None] - centres[None]) ** 2).sum(axis=-1)
        places = squares.argmin(axis=1)
        return np.sqrt(squares[np.arange(len(squares)), places]), places


def fit_density(embeddings: NDArray[np.float32], cells: NDArray[np.intp]) -> Density:
    """Fit centres and a covariance, shrunk by as much as so few images need (Ledoit and Wolf 2004).

    Args:
        embeddings: (N, D), of unit length.
        cells: (N,) the centre that each is of, 0 to K - 1, each with at least one.
    """
    from sklearn.covariance import LedoitWolf

    rows = embeddings.astype(np.float64)
    count = np.bincount(cells)
    centres = np.stack([rows[cells == cell].mean(axis=0) for cell in range(len(count))])
    covariance = LedoitWolf(assume_centered=True).fit(rows - centres[cells]).covariance_
    # The inverse square root, by eigenvalues: symmetric, and no value of an ill-conditioned matrix becomes infinite.
    values, vectors = np.linalg.eigh(covariance)
    whitening = (vectors / np.sqrt(np.maximum(values, 1e-9 * values.max()))) @ vectors.T
    return Density(whitening.astype(np.float32), (centres @ whitening.T).astype(np.float32))
