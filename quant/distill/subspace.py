"""The subspace of a teacher's embeddings in which a narrower student lives.

A SigLIP vision tower's embedding is as wide as the tower, so a narrow student can't give the teacher's embedding. Nearly all
of what tells images and texts apart lies in a few of its directions: both towers are projected on the first of them, the
student learns the projected image embedding, and the text tower's last layer takes the projection in. Cosines between
projected embeddings are those of the original up to what the other directions held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Subspace:
    """Orthonormal rows, (width, teacher's width) float32, and the share of the embeddings' variance that they hold."""

    rows: NDArray[np.float32]
    kept: float

    def project(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, teacher's width) to (N, width), of unit length."""
        found = embeddings @ self.rows.T
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def principal_subspace(groups: Sequence[NDArray[np.float32]], width: int) -> Subspace:
    """The directions that hold most of several groups of embeddings (images, texts), each group weighing the same.

    The groups' means are far apart (SigLIP's towers do not share a centre) and go in beside the spread around them, with
    the same weight. The identity where `width` is the embeddings' own: then nothing is turned, and an index of the
    teacher's embeddings can be searched with the student's.

    Args:
        groups: (N, D) float32 each.
        width: directions to keep, at most D.
    """
    size = groups[0].shape[1]
    if width >= size:
        return Subspace(np.eye(size, dtype=np.float32), 1.0)
    total = np.zeros((size, size))
    spread = []
    for group in groups:
        rows = group.astype(np.float64)
        mean = rows.mean(axis=0)
        centred = rows - mean
        covariance = centred.T @ centred / len(rows)
        covariance /= max(float(np.trace(covariance)), 1e-12)
        spread.append(covariance)
        total += covariance + np.outer(mean, mean) / max(float(mean @ mean), 1e-12)
    vectors = np.linalg.eigh(total)[1][:, ::-1][:, :width].T
    kept = float(np.mean([np.trace(vectors @ covariance @ vectors.T) for covariance in spread]))
    return Subspace(np.ascontiguousarray(vectors, np.float32), kept)
