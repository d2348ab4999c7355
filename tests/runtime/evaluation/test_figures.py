"""Figures of an evaluation, against scikit-learn and against what must hold of resamples."""

import numpy as np
import pytest
from sklearn import metrics as known

from medge.runtime.bundles import metrics
from medge.runtime.evaluation.figures import LEAST, Figures, Judged, figures_of, subgroups_of

LABELS = ("a", "b", "c")


def one_label(count: int = 60, *, groups: int | None = None, ordinal: bool = False) -> Judged:
    """Scores with ties, of which about half are right."""
    rng = np.random.default_rng(5)
    true = rng.integers(0, 3, count)
    scores = np.round(rng.dirichlet(np.ones(3), count) + 0.4 * np.eye(3)[true], 1)
    scores /= scores.sum(1, keepdims=True)
    return Judged(LABELS, scores, np.eye(3)[true], np.arange(count) % (groups or count), True, ordinal)


def test_one_label_is_what_scikit_learn_says() -> None:
    judged = one_label(ordinal=True)
    true, said = judged.truth.argmax(-1), judged.scores.argmax(-1)
    found = figures_of(judged)
    values = {name: figure["value"] for name, figure in found["figures"].items()}
    assert values["accuracy"] == pytest.approx(known.accuracy_score(true, said))
    assert values["balanced_accuracy"] == pytest.approx(known.balanced_accuracy_score(true, said))
    assert values["macro_f1"] == pytest.approx(known.f1_score(true, said, average="macro"))
    assert values["macro_auc"] == pytest.approx(known.roc_auc_score(true, judged.scores, multi_class="ovr"))
    assert values["kappa"] == pytest.approx(known.cohen_kappa_score(true, said, weights="quadratic"))
    assert values["calibration_error"] == pytest.approx(metrics.expected_calibration_error(judged.scores, true))
    for place, label in enumerate(LABELS):
        auc = known.roc_auc_score(true == place, judged.scores[:, place])
        assert found["labels"][label]["auc"]["value"] == pytest.approx(auc)
        recall = known.recall_score(true == place, said == place)
        assert found["labels"][label]["sensitivity"]["value"] == pytest.approx(recall)


def test_findings_leave_out_what_is_not_known() -> None:
    scores = np.array([[0.9, 0.2], [0.8, 0.6], [0.3, 0.7], [0.4, 0.1], [0.95, 0.5]])
    truth = np.array([[1, np.nan], [1, 1], [0, np.nan], [0, 0], [np.nan, 0]])
    found = figures_of(Judged(("x", "y"), scores, truth, np.arange(5), False))
    assert "accuracy" not in found["figures"]
    assert (found["labels"]["x"]["count"], found["labels"]["x"]["known"]) == (2, 4)
    assert found["labels"]["x"]["auc"]["value"] == 1
    assert found["labels"]["y"]["known"] == 3
    assert found["labels"]["y"]["specificity"]["value"] == pytest.approx(0.5)  # 0.5 is taken to hold


def test_what_can_not_be_told_is_none() -> None:
    truth = np.array([[0.0], [0.0]])
    found = figures_of(Judged(("x",), np.array([[0.2], [0.6]]), truth, np.arange(2), False))["labels"]["x"]
    assert found["auc"] == {"value": None, "low": None, "high": None}
    assert found["sensitivity"]["value"] is None
    assert found["specificity"]["value"] == pytest.approx(0.5)


def test_counts_of_a_resample_are_its_rows() -> None:
    judged = one_label(ordinal=True)
    rows = np.random.default_rng(1).integers(0, 60, 60)
    by_count = Figures(judged).everything(np.bincount(rows, minlength=60).astype(float))
    np.testing.assert_allclose(by_count, Figures(judged.of(rows)).everything(np.ones(60)), rtol=1e-12)


def test_intervals_are_over_groups() -> None:
    """Five copies of each item say no more than one: the interval must not become narrower."""
    single = one_label(40)
    copies = single.of(np.repeat(np.arange(40), 5))
    apart = Judged(LABELS, copies.scores, copies.truth, np.arange(200), True)

    def width(judged: Judged) -> float:
        figure = figures_of(judged)["figures"]["macro_auc"]
        return float(figure["high"] - figure["low"])

    assert width(copies) == pytest.approx(width(single))
    assert width(apart) < 0.6 * width(single)


def test_a_perfect_label_of_few_items_is_not_certain() -> None:
    truth = np.eye(2)[[0] * 10 + [1] * 10]
    found = figures_of(Judged(("a", "b"), truth * 0.8 + 0.1, truth, np.arange(20), True))
    assert found["labels"]["a"]["sensitivity"]["value"] == 1
    assert found["labels"]["a"]["sensitivity"]["low"] == pytest.approx(metrics.wilson(10, 10)[0])
    assert found["figures"]["accuracy"]["low"] == pytest.approx(metrics.wilson(20, 20)[0])


def test_subgroups_need_enough_items() -> None:
    judged = one_label(60)
    about = {"sex": ["f"] * 35 + ["m"] * (LEAST - 1) + [""] * (60 - 35 - LEAST + 1)}
    found = subgroups_of(judged, about)
    assert set(found["sex"]) == {"f"}
    assert found["sex"]["f"]["count"] == 35
    accuracy = found["sex"]["f"]["figures"]["accuracy"]["value"]
    assert accuracy == pytest.approx((judged.scores.argmax(-1) == judged.truth.argmax(-1))[:35].mean())
