"""Curves against scikit-learn, and bins and counts against hand-made ones."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medge.runtime.evaluation.figures import Judged
from medge.runtime.evaluation.pages.curves import commonest_mistakes, confusions, reliability, roc, rocs


def test_the_area_below_a_curve_is_the_auc_also_with_ties() -> None:
    rng = np.random.default_rng(0)
    scores, holds = rng.integers(0, 5, 60) / 5, rng.random(60) < 0.3
    false, true = roc(scores, holds)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert float(np.trapezoid(true, false)) == pytest.approx(roc_auc_score(holds, scores))


def judged(scores: list[list[float]], truth: list[list[float]], *, one: bool) -> Judged:
    return Judged(("a", "b"), np.array(scores), np.array(truth), np.arange(len(scores)), one)


def test_a_label_of_which_all_or_none_is_has_no_curve() -> None:
    nan = float("nan")
    found = rocs(judged([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], [[1, 1], [0, 1], [nan, nan]], one=False))
    assert list(found) == ["a"]


def test_how_often_a_stated_probability_came_true() -> None:
    bins = reliability(judged([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]], [[1, 0], [0, 1], [0, 1]], one=True))
    assert bins.stated.tolist() == pytest.approx([0.6, 0.9])
    assert bins.came_true.tolist() == [1.0, 0.5]
    assert bins.count.tolist() == [1, 2]
    # Findings: each known one by itself, also those that are unlikely.
    nan = float("nan")
    bins = reliability(judged([[0.9, 0.1], [0.9, 0.1]], [[1, 0], [0, nan]], one=False))
    assert bins.stated.tolist() == pytest.approx([0.1, 0.9])
    assert bins.came_true.tolist() == [0.0, 0.5]


def test_mistakes_are_counted() -> None:
    counts = confusions(judged([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], [[0, 1], [0, 1], [0, 1]], one=True))
    assert counts == [[0, 0], [2, 1]]
    assert commonest_mistakes(["a", "b"], counts, 3) == [("b", "a", 2)]
