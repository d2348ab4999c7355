"""Distances between two models and scores against labels, in numpy.

Cosine flatters: all embeddings of one model share a large common part. Centred cosine takes the reference's mean
embedding away from both first, and is what the gates look at.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
NORMAL_975 = NormalDist().inv_cdf(0.975)  # the quantile of 95% intervals
Statistic = Callable[[NDArray[np.intp]], float]  # of rows, by their indices
Statistics = Callable[[NDArray[np.intp]], NDArray[np.float64]]  # several, (K,)


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
    return accuracy_of(scores, truth)(np.arange(len(truth)))


def accuracy_of(scores: Floats, truth: NDArray[np.intp]) -> Statistic:
    """`accuracy` of any of the rows."""
    right = scores.argmax(-1) == truth
    return lambda rows: float(right[rows].mean())


def macro_auc(scores: Floats, truth: NDArray[np.intp]) -> float:
    """Mean over the classes of the one-against-rest area under the ROC curve.

    Classes of which there is no positive or no negative are left out; NaN when none remains. By ranks with ties
    averaged (Mann-Whitney U; Hanley and McNeil 1982).
    """
    return macro_auc_of(scores, truth)(np.arange(len(truth)))


def macro_auc_of(scores: Floats, truth: NDArray[np.intp]) -> Statistic:
    """`macro_auc` of any of the rows; they are sorted once."""
    count, classes = scores.shape
    order = np.argsort(scores, axis=0, kind="stable")  # (N, C)
    values, true = np.take_along_axis(scores, order, axis=0), truth[order] == np.arange(classes)
    # Where the run of scores that equal a row's begins, and where it ends.
    changes = values[1:] != values[:-1]
    place, edge = np.arange(count)[:, None], np.ones((1, classes), bool)
    begins = np.maximum.accumulate(np.where(np.concatenate([edge, changes]), place, 0), axis=0)
    ends = np.minimum.accumulate(np.where(np.concatenate([changes, edge]), place + 1, count)[::-1], axis=0)[::-1]
    below = np.zeros((count + 1, classes), np.intp)  # negatives before each place

    def area(rows: NDArray[np.intp]) -> float:
        drawn = np.bincount(rows, minlength=count)[order]
        positive = drawn * true
        np.cumsum(drawn - positive, axis=0, out=below[1:])
        beaten = np.take_along_axis(below, begins, axis=0) + np.take_along_axis(
            below, ends, axis=0
        )  # a tie counts half
        pairs = positive.sum(axis=0) * below[-1]
        known = pairs > 0
        return float(((positive * beaten).sum(axis=0)[known] / (2 * pairs[known])).mean()) if known.any() else math.nan

    return area


def confusion(scores: Floats, truth: NDArray[np.intp]) -> NDArray[np.intp]:
    """How many rows of (N, C) scores with each true column have which greatest column: (C, C), the true ones downwards."""
    classes = scores.shape[1]
    return np.bincount(truth * classes + scores.argmax(-1), minlength=classes**2).reshape(classes, classes)


def wilson(successes: int, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a proportion (Wilson 1927; Brown, Cai and DasGupta 2001).

    For few cases, as of one label: a bootstrap of twelve hits in twelve is certain that there are no misses.
    """
    z = NORMAL_975
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
    confidence, right, which = _binned(probabilities, truth, bins)
    count = np.bincount(which, minlength=bins)
    used = count > 0
    means = [np.bincount(which, values, minlength=bins)[used] / count[used] for values in (confidence, right)]
    return means[0], means[1], count[used]


def _binned(
    probabilities: Floats, truth: NDArray[np.intp], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """By row: its greatest probability, whether that column is the true one, and the bin."""
    confidence = probabilities.max(-1).astype(np.float64)
    right = (probabilities.argmax(-1) == truth).astype(np.float64)
    return confidence, right, np.minimum((confidence * bins).astype(np.intp), bins - 1)


def expected_calibration_error(probabilities: Floats, truth: NDArray[np.intp], bins: int = 15) -> float:
    """ECE: the mean over all rows of the distance between a bin's probability and its share of right answers."""
    return expected_calibration_error_of(probabilities, truth, bins)(np.arange(len(truth)))


def expected_calibration_error_of(probabilities: Floats, truth: NDArray[np.intp], bins: int = 15) -> Statistic:
    """`expected_calibration_error` of any of the rows."""
    confidence, right, which = _binned(probabilities, truth, bins)
    excess = right - confidence
    return lambda rows: float(np.abs(np.bincount(which[rows], excess[rows], minlength=bins)).sum() / len(rows))


def bootstrap(statistic: Statistic, count: int, *, rounds: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95% interval of a statistic of resampled rows: the percentile bootstrap (Efron 1979), expanded for few rows.

    Rows must be independent of one another: tokens are resampled by their texts or images (`grouped`).
    """
    low, high = interval_of(resampled(statistic, count, rounds=rounds, seed=seed), count)
    return float(low), float(high)


def resampled(
    statistic: Statistic | Statistics, count: int, *, rounds: int = 1000, seed: int = 0
) -> NDArray[np.float64]:
    """A statistic of resamples of `count` rows: (rounds,), or of K statistics (rounds, K).

    The same resamples on every call, so that two can be compared.
    """
    rng = np.random.default_rng(seed)
    return np.array([statistic(rng.integers(0, count, count)) for _ in range(rounds)], np.float64)


def interval_of(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """95% interval of a statistic, from its values on resamples of `count` rows as `resampled` gives them: (2,), or (2, K).

    Resamples of n rows spread too little, and their quantiles take no account of an unknown variance. Quantiles further out make
    up for both (Hesterberg 2015, "What teachers should know about the bootstrap"): at 400 rows nothing changes, at 8 rows the
    interval is three tenths wider. A statistic that a resample has no value for is NaN there; one that none has a value for has
    NaN as its interval.
    """
    tail = 100 * NormalDist().cdf(-_student(count - 1) * math.sqrt(count / (count - 1))) if count > 1 else 0.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.asarray(np.nanpercentile(values, [tail, 100 - tail], axis=0))


def _student(freedom: int) -> float:
    """The 97.5% quantile of Student's t (Abramowitz and Stegun 1964, 26.7.5); to a hundredth from 4 degrees of freedom on."""
    z, n = NORMAL_975, freedom
    terms = (
        (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )  # fmt: skip
    return z + sum(term / n**power for power, term in enumerate(terms, 1))


def group_numbers(names: Sequence[str]) -> NDArray[np.intp]:
    """(N,) which group each of N rows is of, from the groups' names; a row without a name is a group of its own."""
    return np.unique([name or f"\0{place}" for place, name in enumerate(names)], return_inverse=True)[1]


def each_alone(groups: NDArray[np.intp]) -> bool:
    """Whether each row is a group of its own."""
    return len(np.unique(groups)) == len(groups)


def grouped(statistic: Statistic, groups: NDArray[np.intp]) -> tuple[float, float]:
    """95% interval of a statistic of rows that come in groups: whole groups are resampled.

    Args:
        statistic: of rows.
        groups: (N,) which group each row is of.
    """
    low, high = grouped_all(lambda rows: np.array([statistic(rows)]), groups)[:, 0]
    return float(low), float(high)


def proportion(hits: NDArray[np.bool_], groups: NDArray[np.intp]) -> tuple[float, float]:
    """95% interval of a share of rows: Wilson's where each row is a group of its own, else from resampled groups.

    Where nothing was missed, the bootstrap is certain that nothing ever will be.

    Args:
        hits: (N,) whether a row counts.
        groups: (N,) which group each row is of.
    """
    if each_alone(groups):
        return wilson(int(hits.sum()), len(hits))
    return grouped(lambda rows: float(hits[rows].mean()), groups)


def grouped_all(statistics: Statistics, groups: NDArray[np.intp]) -> NDArray[np.float64]:
    """The intervals of several statistics, (K,), of rows that come in groups, from the same resamples: (2, K), low and high."""
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    count = len(members)
    if count == len(order):  # each row for itself
        return interval_of(resampled(lambda picks: statistics(order[picks]), count), count)
    drawn = resampled(lambda picks: statistics(np.concatenate([members[pick] for pick in picks])), count)
    return interval_of(drawn, count)
