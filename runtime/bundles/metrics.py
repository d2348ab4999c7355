"""Distances between two models and scores against labels, in numpy.

Cosine flatters: all embeddings of one model share a large common part. Centred cosine takes the reference's mean
embedding away from both first, and is what the gates look at.
"""

from __future__ import annotations

import math
import warnings
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


def confusion(scores: Floats, truth: NDArray[np.intp]) -> NDArray[np.intp]:
    """How many rows of (N, C) scores with each true column have which greatest column: (C, C), the true ones downwards."""
    classes = scores.shape[1]
    return np.bincount(truth * classes + scores.argmax(-1), minlength=classes**2).reshape(classes, classes)


def wilson(successes: int, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a proportion (Wilson 1927; Brown, Cai and DasGupta 2001).

    For few cases, as of one label: a bootstrap of twelve hits in twelve is certain that there are no misses.
    """
    z = 1.959963984540054  # the normal distribution's 97.5% quantile
    share, spread = successes / count, z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * np.sqrt(share * (1 - share) / count + spread / (4 * count))
    low, high = float(middle - half), float(middle + half)
    # At the ends exactly, whatever the rounding.
    return low if successes else 0.0, high if successes < count else 1.0


def calibration_bins(
    probabilities: Floats, truth: NDArray[np.intp], bins: int = 15
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Rows by their greatest probability, in equal-width bins that are not empty (Guo et al. 2017).

    Returns:
        by bin: the mean of that probability, the share of rows whose greatest column is the true one, and the rows' number.
    """
    confidence = probabilities.max(-1).astype(np.float64)
    right = (probabilities.argmax(-1) == truth).astype(np.float64)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    used = count > 0
    means = [np.bincount(which, values, minlength=bins)[used] / count[used] for values in (confidence, right)]
    return means[0], means[1], count[used]


def expected_calibration_error(probabilities: Floats, truth: NDArray[np.intp], bins: int = 15) -> float:
    """ECE: the mean over all rows of the distance between a bin's probability and its share of right answers."""
    confidence, right, count = calibration_bins(probabilities, truth, bins)
    return float((count * np.abs(right - confidence)).sum() / count.sum())


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float], count: int, *, rounds: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95% interval of a statistic of resampled row indices: the percentile bootstrap (Efron 1979), expanded for few rows.

    Resamples of n rows spread too little, and their quantiles take no account of an unknown variance. Quantiles further out make
    up for both (Hesterberg 2015, "What teachers should know about the bootstrap"): at 400 rows nothing changes, at 8 rows the
    interval is three tenths wider. Rows must be independent of one another: tokens are resampled by their texts or images
    (`grouped`).
    """
    low, high = bootstrap_all(lambda rows: np.array([statistic(rows)]), count, rounds=rounds, seed=seed)[:, 0]
    return float(low), float(high)


def bootstrap_all(
    statistics: Callable[[NDArray[np.intp]], NDArray[np.float64]], count: int, *, rounds: int = 1000, seed: int = 0
) -> NDArray[np.float64]:
    """The intervals of several statistics, (K,), from the same resamples, as `bootstrap` makes them: (2, K), low and high.

    A statistic that a resample has no value for is NaN there; one that none has a value for has NaN as its interval.
    """
    rng = np.random.default_rng(seed)
    values = np.stack([statistics(rng.integers(0, count, count)) for _ in range(rounds)])
    tail = 100 * NormalDist().cdf(-_student(count - 1) * math.sqrt(count / (count - 1))) if count > 1 else 0.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.nanpercentile(values, [tail, 100 - tail], axis=0)


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
    low, high = grouped_all(lambda rows: np.array([statistic(rows)]), groups)[:, 0]
    return float(low), float(high)


def grouped_all(
    statistics: Callable[[NDArray[np.intp]], NDArray[np.float64]], groups: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The intervals of several statistics, (K,), of rows that come in groups: (2, K), low and high."""
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return bootstrap_all(lambda picks: statistics(np.concatenate([members[pick] for pick in picks])), len(members))
