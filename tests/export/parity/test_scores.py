"""Scores against labels, on known cases and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import METRIC

pytest.importorskip("torch", reason="torch is not installed: pip install 'medge[export]'")

from medge.export.parity.scores import Scores, Side, compare_scores, score_plots
from medge.runtime.bundles.gates import Gate, Measured
from medge.runtime.bundles.metrics import wilson

# Three labels; the images know two of them, in another order.
TRUTH = np.array([0, 0, 0, 1, 1, 1, 1])  # of ("mri", "ct")
REFERENCE = np.log([[0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1], [0.9, 0.05, 0.05], [0.7, 0.2, 0.1], [0.8, 0.1, 0.1],
                    [0.6, 0.3, 0.1]])  # fmt: skip
BUNDLE = np.log([[0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.9, 0.05, 0.05], [0.7, 0.2, 0.1], [0.8, 0.1, 0.1],
                 [0.2, 0.1, 0.7]])  # fmt: skip
SCORES = Scores(("ct", "mri", "none"), Side.of(REFERENCE), Side.of(BUNDLE), TRUTH, ("mri", "ct"))


def test_confusions_and_rates_by_label() -> None:
    figures = compare_scores(SCORES)
    assert figures.confusions is not None
    assert figures.confusions.labels == ("mri", "ct")
    assert figures.confusions.reference == ((2, 1), (0, 4))
    assert figures.confusions.bundle == (
        (2, 1),
        (0, 4),
    )  # of the last image the best label that the images know is "ct"
    mri, ct = figures.by_label
    assert (mri.label, mri.images, ct.label, ct.images) == ("mri", 3, "ct", 4)
    assert mri.bundle.sensitivity is not None
    assert mri.bundle.specificity is not None
    assert (mri.bundle.sensitivity.value, mri.bundle.specificity.value) == (pytest.approx(2 / 3), 1)
    assert (mri.bundle.specificity.low, mri.bundle.specificity.high) == pytest.approx(wilson(4, 4))
    assert figures.flips == pytest.approx(3 / 7)
    assert figures.accuracy is not None
    assert figures.accuracy.bundle.value == pytest.approx(6 / 7)


def test_no_changed_answer_of_few_has_a_wide_interval() -> None:
    same = compare_scores(Scores(SCORES.names, SCORES.reference, SCORES.reference, TRUTH, SCORES.known))
    assert same.flips == 0
    interval = same.intervals["flips"]
    assert (interval.value, interval.low) == (0, 0)
    assert interval.high == pytest.approx(wilson(0, 7)[1])
    assert interval.high > 0.3
    result = Gate("scores.flips", "<=", 0.02).judge(Measured(0.0, interval.low, interval.high, 7, "images"))
    assert (result.high, result.warning) == (interval.high, "")  # nothing was lost: nothing to warn of
    lost = Gate("scores.flips", "<=", 0.02).judge(Measured(0.01, 0.0, 0.05, 100, "images"))
    assert lost.warning == (
        "the best label changed on 1% of the images (95% interval 0% to 5%): by the interval it may be beyond the bound of 2%"
    )


def test_rates_against_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    truth, labels = rng.integers(0, 4, 80), ("a", "b", "c", "d")
    sides = [Side.of(rng.normal(size=(80, 4)) + 2 * np.eye(4)[truth]) for _ in range(2)]
    figures = compare_scores(Scores(labels, sides[0], sides[1], truth, labels))
    for side, found in ((sides[0], "reference"), (sides[1], "bundle")):
        called = side.logits.argmax(1)
        for index, row in enumerate(figures.by_label):
            rates = getattr(row, found)
            sensitivity = sklearn.recall_score(truth == index, called == index)
            specificity = sklearn.recall_score(truth != index, called != index)
            assert rates.sensitivity.value == pytest.approx(sensitivity, abs=METRIC)
            assert rates.specificity.value == pytest.approx(specificity, abs=METRIC)


def test_a_label_alone_has_no_specificity() -> None:
    one = Scores(("ct", "mri"), Side.of(REFERENCE[:, :2]), Side.of(BUNDLE[:, :2]), np.zeros(7, np.intp), ("ct",))
    (row,) = compare_scores(one).by_label
    assert row.images == 7
    assert row.bundle.sensitivity is not None
    assert row.bundle.specificity is None


def test_worst_and_flipped_images() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=(7, 5)).astype(np.float32)
    ours = theirs.copy()
    ours[4] = -ours[4]
    plots = score_plots(SCORES, theirs, ours)
    assert plots.worst[0].number == 5  # from 1
    assert [row.centred_cosine for row in plots.worst] == sorted(row.centred_cosine for row in plots.worst)
    assert {row.number: (row.reference, row.bundle, row.truth) for row in plots.flipped} == {
        2: ("mri", "ct", "mri"), 7: ("ct", "none", "ct"), 3: ("ct", "mri", "mri"),
    }  # fmt: skip
    sure = [row.bundle_probability for row in plots.flipped]
    assert sure == pytest.approx([0.7, 0.7, 0.6])
    assert plots.calibration is not None
    assert sum(plots.calibration.bundle.images) == 7
    bare = score_plots(Scores(SCORES.names, SCORES.reference, SCORES.bundle, None, ()), theirs, ours)
    assert (bare.roc, bare.calibration, bare.flipped[0].truth) == (None, None, None)
    assert score_plots(SCORES, theirs[:1], ours[:1]).worst == ()
