"""What scores say against true labels: AUC, sensitivity, specificity, F1 by label, and over the labels, with 95% intervals.

Everything is a function of how often each row counts, so that a resample of the bootstrap is an array of counts and no score
is sorted twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundles.metrics import each_alone, grouped_all, wilson

Floats = NDArray[np.float64]
LEAST = 20  # items of a subgroup that has figures of its own: of fewer, an interval would be all that there is
BY_LABEL = ("auc", "sensitivity", "specificity", "f1")


@dataclass(frozen=True)
class Judged:
    """Scores of items and what is true of them.

    Attributes:
        labels: L names.
        scores: (N, L), a probability for each label.
        truth: (N, L), 1 where a label holds, 0 where it does not, NaN where that is not known.
        groups: (N,) which patient or the like each item is of.
        one: whether each item has exactly one label: the one with the greatest score is then the answer. Otherwise a label is
            taken to hold from 0.5 on.
        ordinal: whether the labels are grades, in their order.
    """

    labels: tuple[str, ...]
    scores: Floats
    truth: Floats
    groups: NDArray[np.intp]
    one: bool
    ordinal: bool = False

    def of(self, rows: NDArray[np.intp]) -> Judged:
        """The same of some of the items."""
        return Judged(
            self.labels, self.scores[rows], self.truth[rows], self.groups[rows], self.one, self.ordinal
        )  # fmt: skip

    @property
    def answers(self) -> NDArray[np.bool_]:
        """(N, L), which labels are taken to hold."""
        if not self.one:
            return self.scores >= 0.5
        return np.eye(len(self.labels), dtype=bool)[self.scores.argmax(-1)]


class Figures:
    """The statistics of judged items, of all or of a resample.

    Args:
        judged: at least one item.
    """

    def __init__(self, judged: Judged) -> None:
        self.judged = judged
        self._known = ~np.isnan(judged.truth)
        self._holds = (judged.truth == 1).astype(float)
        self._not = (judged.truth == 0).astype(float)
        self._said = judged.answers.astype(float)
        # Of each label, the place of each item's score among the different scores.
        self._levels = [np.unique(column, return_inverse=True)[1] for column in judged.scores.T]
        self.names = [
            *(["accuracy", "balanced_accuracy", "calibration_error"] if judged.one else []),
            *(["kappa"] if judged.ordinal else []), "macro_auc", "macro_f1",
        ]  # fmt: skip

    def everything(self, count: Floats) -> Floats:
        """The statistics over the labels, in the order of `names`, and then those of each label, (4 L,).

        Args:
            count: (N,) how often each item counts.
        """
        by_label = np.array([self._of_label(place, count) for place in range(len(self.judged.labels))])
        over = self._over(count, by_label)
        return np.concatenate([[over[name] for name in self.names], by_label.ravel()])

    def _of_label(self, place: int, count: Floats) -> Floats:
        """AUC, sensitivity, specificity and F1 of a label; NaN where there is nothing that it could be of."""
        holds, fails = count * self._holds[:, place], count * self._not[:, place]
        positives, negatives = holds.sum(), fails.sum()
        said = self._said[:, place]
        right, wrong = (holds * said).sum(), (fails * said).sum()
        auc = math.nan
        if positives and negatives:
            levels = self._levels[place]
            above, below = np.bincount(levels, holds), np.bincount(levels, fails)
            auc = float((above * (np.cumsum(below) - below / 2)).sum() / (positives * negatives))
        return np.array([
            auc, right / positives if positives else math.nan, 1 - wrong / negatives if negatives else math.nan,
            2 * right / (positives + right + wrong) if positives else math.nan,
        ])  # fmt: skip

    def _over(self, count: Floats, by_label: Floats) -> dict[str, float]:
        found = {"macro_auc": _mean(by_label[:, 0]), "macro_f1": _mean(by_label[:, 3])}
        if self.judged.one:
            total = count.sum()
            found["accuracy"] = float((count * (self._said * self._holds).sum(-1)).sum() / total)
            found["balanced_accuracy"] = _mean(by_label[:, 1])
            found["calibration_error"] = self._calibration_error(count)
        if self.judged.ordinal:
            found["kappa"] = self._kappa(count)
        return found

    def _calibration_error(self, count: Floats, bins: int = 15) -> float:
        """ECE, as `metrics.expected_calibration_error` has it."""
        confidence = self.judged.scores.max(-1)
        which = np.minimum((confidence * bins).astype(int), bins - 1)
        right = (self._said * self._holds).sum(-1)
        return float(np.abs(np.bincount(which, count * (right - confidence))).sum() / count.sum())

    def _kappa(self, count: Floats) -> float:
        """Cohen's kappa with quadratic weights (Cohen 1968), by which grades of retinopathy are judged."""
        classes = len(self.judged.labels)
        true, said = self._holds.argmax(-1), self._said.argmax(-1)
        table = np.bincount(true * classes + said, count, classes**2).reshape(classes, classes)
        apart = np.subtract.outer(np.arange(classes), np.arange(classes)) ** 2
        chance = np.outer(table.sum(1), table.sum(0)) / table.sum()
        expected = (apart * chance).sum()
        return float(1 - (apart * table).sum() / expected) if expected else math.nan


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def figures_of(judged: Judged, *, rounds: bool = True) -> dict[str, Any]:
    """Every figure of judged items, for JSON.

    Args:
        judged: at least one item.
        rounds: whether to tell intervals.

    Returns:
        {"figures": {name: interval}, "labels": {label: {"count", "auc", ...}}}; a figure is {"value", "low", "high"}, with None
        where there is nothing that it could be of.
    """
    made = Figures(judged)
    size = len(judged.scores)
    values = made.everything(np.ones(size))
    spread = np.full((2, len(values)), math.nan)
    if rounds:
        spread = grouped_all(
            lambda rows: made.everything(np.bincount(rows, minlength=size).astype(float)), judged.groups
        )
    told = [_figure(value, low, high) for value, low, high in zip(values, *spread, strict=True)]
    over = dict(zip(made.names, told, strict=False))
    labels = {}
    for place, label in enumerate(judged.labels):
        start = len(made.names) + place * len(BY_LABEL)
        labels[label] = {
            "count": int((judged.truth[:, place] == 1).sum()),
            "known": int((~np.isnan(judged.truth[:, place])).sum()),
            **dict(zip(BY_LABEL, told[start:], strict=False)),
        }
    if rounds and each_alone(judged.groups):
        _with_wilson(judged, over, labels)
    return {"figures": over, "labels": labels}


def _with_wilson(judged: Judged, over: dict[str, Any], labels: dict[str, Any]) -> None:
    """Put Wilson's intervals in the place of the bootstrap's of proportions, which is certain where nothing was missed."""
    if judged.one:
        hits = int((judged.answers & (judged.truth == 1)).sum())
        low, high = wilson(hits, len(judged.scores))
        over["accuracy"] |= {"low": low, "high": high}
    for place, label in enumerate(judged.labels):
        said, truth = judged.answers[:, place], judged.truth[:, place]
        for name, value, right in (("sensitivity", 1, said), ("specificity", 0, ~said)):
            if total := int((truth == value).sum()):
                low, high = wilson(int(right[truth == value].sum()), total)
                labels[label][name] |= {"low": low, "high": high}


def _figure(value: float, low: float, high: float) -> dict[str, float | None]:
    return {
        name: None if math.isnan(one) else float(one) for name, one in (("value", value), ("low", low), ("high", high))
    }


def subgroups_of(judged: Judged, about: dict[str, list[str]]) -> dict[str, Any]:
    """The figures over the labels for each value of each property, where enough items have it.

    Args:
        judged: N items.
        about: {property: N values, "" where it is not known}.

    Returns:
        {property: {value: {"count", "figures"}}}, of values that at least `LEAST` items have.
    """
    found: dict[str, Any] = {}
    for name, values in about.items():
        column = np.array(values)
        for value in sorted(set(values) - {""}):
            rows = np.flatnonzero(column == value)
            if len(rows) >= LEAST:
                figures = figures_of(judged.of(rows))["figures"]
                found.setdefault(name, {})[value] = {"count": len(rows), "figures": figures}
    return found
