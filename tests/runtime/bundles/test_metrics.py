"""Figures against scikit-learn and known cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import METRIC

from medge.runtime.bundles import metrics
from medge.runtime.encoder.labels import unit_length


@given(st.integers(0, 10_000), st.integers(5, 60), st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_auc_accuracy_against_scikit_learn(seed: int, rows: int, classes: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (rows, classes)).astype(np.float64)  # many ties
    truth = np.concatenate([np.arange(classes), rng.integers(0, classes, max(rows - classes, 0))])[:rows]
    areas = [
        sklearn.roc_auc_score(truth == c, scores[:, c]) for c in range(classes) if 0 < (truth == c).sum() < len(truth)
    ]
    assert metrics.macro_auc(scores, truth) == pytest.approx(np.mean(areas), abs=METRIC)
    assert metrics.accuracy(scores, truth) == pytest.approx((scores.argmax(1) == truth).mean())
    theirs = sklearn.confusion_matrix(truth, scores.argmax(1), labels=range(classes))
    np.testing.assert_array_equal(metrics.confusion(scores, truth), theirs)


def test_centred_cosine_sees_what_cosine_hides() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=64) * 20
    a = unit_length((common + rng.normal(size=(200, 64))).astype(np.float32))
    b = unit_length((common + rng.normal(size=(200, 64))).astype(np.float32))
    assert metrics.cosine(a, b).mean() > 0.99  # two unrelated sets look the same
    assert abs(metrics.centred_cosine(a, b).mean()) < 0.1
    np.testing.assert_allclose(metrics.centred_cosine(a, a), 1)


def test_ece_of_known_cases() -> None:
    sure = np.array([[1.0, 0.0]] * 10)
    assert metrics.expected_calibration_error(sure, np.zeros(10, int)) == pytest.approx(0)
    assert metrics.expected_calibration_error(sure, np.array([0, 1] * 5)) == pytest.approx(0.5)


def test_flips_and_overlap() -> None:
    a = np.eye(4)
    assert metrics.flips(a, a) == 0
    assert metrics.flips(a, a[[0, 1, 3, 2]]) == 0.5
    vectors = unit_length(np.random.default_rng(1).normal(size=(30, 8)).astype(np.float32))
    assert metrics.recall_overlap(vectors, vectors) == 1
    assert metrics.recall_overlap(vectors, -vectors[::-1]) < 0.9


def test_bootstrap_covers_the_mean() -> None:
    data = np.random.default_rng(0).normal(3, 1, 400)
    low, high = metrics.bootstrap(lambda rows: float(data[rows].mean()), 400)
    assert low < 3 < high
    assert 0.12 < high - low < 0.28  # 2 x 1.96 / sqrt(400) = 0.196


def test_wilsons_interval() -> None:
    """Against scipy, and where a bootstrap would be certain of what twelve images can't show."""
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    for successes, count in ((0, 1), (1, 1), (12, 12), (0, 30), (7, 20), (399, 400)):
        theirs = stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
        assert metrics.wilson(successes, count) == pytest.approx((theirs.low, theirs.high), abs=METRIC)
    assert metrics.wilson(12, 12)[0] < 0.76
    assert metrics.bootstrap(lambda rows: float(np.ones(12)[rows].mean()), 12) == (1, 1)


@given(st.integers(0, 10_000), st.integers(5, 60))
@settings(max_examples=40, deadline=None)
def test_calibration_bins_against_scikit_learn(seed: int, rows: int) -> None:
    calibration = pytest.importorskip("sklearn.calibration", reason="scikit-learn is not installed")
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet((1.0, 1.0, 1.0), rows)
    truth = rng.integers(0, 3, rows)
    means, right, count = metrics.calibration_bins(probabilities, truth, 10)
    theirs = calibration.calibration_curve(probabilities.argmax(1) == truth, probabilities.max(1), n_bins=10)
    np.testing.assert_allclose((right, means), theirs, atol=METRIC)
    assert count.sum() == rows


def test_intervals_of_few_groups_cover() -> None:
    """Tokens of 8 texts that differ from one another: resampled by texts the interval covers, by tokens it rarely does."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(8), 50)
    hits = {"groups": 0, "tokens": 0}
    for _ in range(60):
        values = rng.normal(size=8)[groups] + rng.normal(size=400)

        def mean(rows: np.ndarray, values: np.ndarray = values) -> float:
            return float(values[rows].mean())

        low, high = metrics.grouped(mean, groups)
        hits["groups"] += low < 0 < high
        low, high = metrics.bootstrap(mean, 400)
        hits["tokens"] += low < 0 < high
    assert hits["groups"] >= 53  # 95% of 60 is 57, two standard deviations less are 53.6
    assert hits["tokens"] <= 40
