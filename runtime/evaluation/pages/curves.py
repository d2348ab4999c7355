"""What is drawn of scores against true labels: curves, bins and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...bundles.metrics import calibration_bins, confusion
from ..figures import Judged

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bins:
    """Stated probabilities in bins of equal width that are not empty.

    Attributes:
        stated: (B,) mean probability.
        came_true: (B,) share of those that were right.
        count: (B,) how many.
    """

    stated: Floats
    came_true: Floats
    count: NDArray[np.intp]


def roc(scores: Floats, holds: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The receiver operating characteristic: false- and true-positive rates from (0, 0) to (1, 1).

    Equal scores are one step, so that the area below is the AUC with ties counted half.

    Args:
        scores: (N,).
        holds: (N,) whether the label holds; of both kinds at least one.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(holds[order])[ends]
    alarms = ends + 1 - hits
    return np.append(0.0, alarms / alarms[-1]), np.append(0.0, hits / hits[-1])


def rocs(judged: Judged) -> dict[str, tuple[Floats, Floats]]:
    """{label: ROC}, of the labels that some items have and others don't."""
    found = {}
    for place, label in enumerate(judged.labels):
        truth, scores = judged.truth[:, place], judged.scores[:, place]
        known = ~np.isnan(truth)
        holds = truth[known] == 1
        if holds.any() and not holds.all():
            found[label] = roc(scores[known], holds)
    return found


def reliability(judged: Judged) -> Bins:
    """How often what was stated with a probability was so.

    With one label an item, of the best label; of findings, of each finding of which it is known whether it holds.
    """
    if judged.one:
        return Bins(*calibration_bins(judged.scores, judged.truth.argmax(-1)))
    known = ~np.isnan(judged.truth)
    # One column is its own greatest: it is right where the finding holds.
    return Bins(*calibration_bins(judged.scores[known][:, None], (judged.truth[known] != 1).astype(np.intp)))


def confusions(judged: Judged) -> list[list[int]]:
    """Of items with one label, how many of a true label (row) got an answer (column)."""
    counts: list[list[int]] = confusion(judged.scores, judged.truth.argmax(-1)).tolist()
    return counts


def commonest_mistakes(labels: Sequence[str], counts: Sequence[Sequence[int]], most: int) -> list[tuple[str, str, int]]:
    """[(true label, answer, how many)], the most frequent first.

    Args:
        labels: of rows and columns.
        counts: as of `confusions`.
        most: how many to give.
    """
    found = [
        (labels[row], labels[column], count)
        for row, line in enumerate(counts) for column, count in enumerate(line) if row != column and count
    ]  # fmt: skip
    return sorted(found, key=lambda one: -one[2])[:most]
