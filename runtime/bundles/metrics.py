"""Distances between two models and scores against labels, in numpy.

Cosine flatters: all embeddings of one model share a large common part. Centred cosine takes the reference's mean
embedding away from both first, and is what the gates look at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]


def cosine(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Row-wise cosine of two (N, D) arrays: (N,)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray((a * b).sum(-1) / np.maximum(norms, 1e-30))


def centred_cosine(reference: Floats, other: Floats) -> NDArray[np.float64]:
    """Row-wise cosine after the reference's mean row was subtracted from both: (N,)."""
    mean = reference.astype(np.float64).mean(axis=0)
    return cosine(reference - mean, other - mean)


def flips(reference: Floats, other: Floats) -> float:
    """Share of rows whose greatest column differs between two (N, C) arrays of scores."""
    return float((reference.argmax(-1) != other.argmax(-1)).mean())


def recall_overlap(reference: Floats, other: Floats, k: int = 10) -> float:
    """Mean share of each row's k nearest other rows (by dot product) that two (N, D) embeddings agree on."""
    k = min(k, len(reference) - 1)
    if k < 1:
        return 1.0

    def nearest(x: Floats) -> NDArray[np.intp]:
        similarity = x @ x.T
        np.fill_diagonal(similarity, -np.inf)
        return np.argsort(-similarity, axis=-1, kind="stable")[:, :k]

    pairs = zip(nearest(reference), nearest(other), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in pairs]))


def accuracy(scores: Floats, truth: NDArray[np.intp]) -> float:
    """Share of rows of (N, C) scores whose greatest column is the true one."""
    return float((scores.argmax(-1) == truth).mean())


def macro_auc(scores: Floats, truth: NDArray[np.intp]) -> float:
    """Mean over the classes of the one-against-rest area under the ROC curve.

    Classes of which there is no positive or no negative are left out; NaN when none remains. By ranks with ties
    averaged (Mann-Whitney U; Hanley and McNeil 1982).
    """
    areas = []
    for column in range(scores.shape[1]):
        positive = truth == column
        n, m = int(positive.sum()), int((~positive).sum())
        if n and m:
            _, inverse, counts = np.unique(scores[:, column], return_inverse=True, return_counts=True)
            ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
            areas.append((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))
    return float(np.mean(areas)) if areas else float("nan")


def expected_calibration_error(probabilities: Floats, truth: NDArray[np.intp], bins: int = 15) -> float:
    """ECE of the greatest probability in equal-width bins (Guo et al. 2017)."""
    confidence = probabilities.max(-1)
    right = probabilities.argmax(-1) == truth
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for index in range(bins):
        inside = which == index
        if inside.any():
            total += inside.mean() * abs(float(right[inside].mean()) - float(confidence[inside].mean()))
    return float(total)


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float], count: int, *, rounds: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95% interval of a statistic of resampled row indices: the percentile bootstrap (Efron 1979), expanded for few rows.

    Resamples of n rows spread too little, and their quantiles take no account of an unknown variance. Quantiles further out make
    up for both (Hesterberg 2015, "What teachers should know about the bootstrap"): at 400 rows nothing changes, at 8 rows the
    interval is three tenths wider. Rows must be independent of one another: tokens are resampled by their texts or images
    (`grouped`).
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, count, count)) for _ in range(rounds)]
    tail = 100 * NormalDist().cdf(-_student(count - 1) * math.sqrt(count / (count - 1))) if count > 1 else 0.0
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _student(freedom: int) -> float:
    """The 97.5% quantile of Student's t (Abramowitz and Stegun 1964, 26.7.5); to a hundredth from 4 degrees of freedom on."""
    z, n = NormalDist().inv_cdf(0.975), freedom
    terms = (
        (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )  # fmt: skip
    return z + sum(term / n**power for power, term in enumerate(terms, 1))


def grouped(statistic: Callable[[NDArray[np.intp]], float], groups: NDArray[np.intp]) -> tuple[float, float]:
    """95% interval of a statistic of row indices whose rows come in groups: whole groups are resampled.

    Args:
        statistic: of rows.
        groups: (N,) which group each row is of.
    """
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return bootstrap(lambda picks: statistic(np.concatenate([members[pick] for pick in picks])), len(members))
