"""Calibrated scores on made-up embeddings: what was asked for holds on new images, and what can't be known is not said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from medge.runtime.decisions.calibration import ScoreCalibration, probabilities
from medge.runtime.decisions.facts import OperatingPoint, ScoreFacts, Wanted
from medge.runtime.decisions.labelled import Labelled
from medge.runtime.errors import BundleError, CalibrationError

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'medge[probe]'")

from medge.runtime.decisions.density import fit_density
from medge.runtime.decisions.fitting import Belongs, fit, parts
from medge.runtime.decisions.judging import judge

LABELS = ("pneumonia", "clear", "malignant", "benign")
BELONGS = Belongs("fingerprint", "0" * 64, "made up")
SIZE = 16


def images(count: int, seed: int, *, one: bool = True, spread: float = 0.3, scale: float = 20.0) -> Labelled:
    """Two kinds of picture with two labels each, as clouds around directions that are the labels' embeddings."""
    fixed = np.random.default_rng(99)
    axes = np.linalg.qr(fixed.normal(size=(SIZE, SIZE)))[0]
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, count)
    rows = axes[4 + label // 2] + 0.5 * axes[label] + spread * rng.normal(size=(count, SIZE))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Labelled(
        rows.astype(np.float32), scale * rows @ axes[:4].T, np.eye(4)[label], np.arange(count), label // 2,
        ("chest film", "breast ultrasound"), LABELS, one,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted() -> ScoreCalibration:
    return fit(images(1200, 1), Wanted(), BELONGS)


def test_what_was_asked_for_holds_on_new_images_on_average_over_calibrations() -> None:
    """Each calibration is on few images, so single ones are off; their mean must not be."""
    new = images(1000, 7)
    wanted = Wanted(sensitivity=0.8, specificity=0.9, coverage=0.85, known=0.95)
    seen = [judge(fit(images(300, seed), wanted, BELONGS, seed), new).facts for seed in range(30)]
    kinds = [kind for facts in seen for kind in facts.kinds]
    covered = np.mean([kind.coverage.value for kind in kinds if kind.coverage])
    assert covered == pytest.approx(0.85, abs=0.02)
    assert np.mean([facts.flagged.value for facts in seen if facts.flagged]) == pytest.approx(0.05, abs=0.02)
    points = [point for kind in kinds for point in kind.points if point]
    # At least: where the labels are far apart, one cut gives more than was asked for.
    assert np.mean([point.sensitivity.value for point in points if point.sensitivity]) > 0.79
    assert np.mean([point.specificity.value for point in points if point.specificity]) > 0.89


def test_thresholds_and_what_they_say(fitted: ScoreCalibration) -> None:
    new = images(400, 8)
    decisions = fitted.decide(new.embeddings, new.logits)
    for decision, kind_of in zip(decisions, new.kinds, strict=True):
        if decision.kind != new.kind_names[kind_of]:
            continue
        kind = fitted.facts.kinds[kind_of]
        for finding, point in zip(decision.findings, kind.points, strict=True):
            if point is None:
                assert (finding.says, finding.probability) == ("not calibrated", None)
                continue
            assert finding.probability is not None
            assert point.absent_below is not None
            assert point.present_above is not None
            low, high = finding.probability < point.absent_below, finding.probability > point.present_above
            assert finding.says == (
                "uncertain" if decision.unlike or not (low or high) else "absent" if low else "present"
            )
    assert {decision.kind for decision in decisions} == set(new.kind_names)
    right = np.mean([d.kind == new.kind_names[k] for d, k in zip(decisions, new.kinds, strict=True)])
    assert right > 0.95


def test_a_label_of_another_kind_takes_nothing_from_the_probabilities(fitted: ScoreCalibration) -> None:
    new = images(50, 9)
    chest = fitted.facts.kinds[[kind.name for kind in fitted.facts.kinds].index("chest film")]
    shares = probabilities(chest, new.logits, one=True)
    assert (shares[:, 2:] == 0).all()
    assert shares.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("name", ["sensitivity", "specificity"])
def test_with_one_of_the_two_asked_for_nothing_is_uncertain(name: str) -> None:
    asked: dict[str, Any] = {"sensitivity": None, "specificity": None, name: 0.95}
    known, new = (
        dataclasses.replace(images(2000, seed, spread=0.45), kinds=np.zeros(2000, np.intp), kind_names=("",))
        for seed in (2, 3)
    )  # a picture that is taken for another kind would count as missed
    [kind] = judge(fit(known, Wanted(**asked), BELONGS), new).facts.kinds
    points = [point for point in kind.points if point]
    assert len(points) == 4
    for point in points:
        assert point.absent_below == point.present_above
        assert getattr(point, name).value == pytest.approx(0.95, abs=0.03)


def test_labels_that_lie_apart_have_one_cut() -> None:
    found = fit(images(600, 2, spread=0.05), Wanted(), BELONGS)
    for point in (point for kind in found.facts.kinds for point in kind.points if point):
        assert point.absent_below == point.present_above
        assert point.absent_below is not None
        assert point.sensitivity is not None
        assert 0 < point.absent_below < 1
        assert point.sensitivity.value > 0.9


def test_too_few_images_say_nothing() -> None:
    """A sensitivity of 0.99 needs 99 images of a label among those that thresholds are set on."""
    found = fit(images(200, 2), Wanted(sensitivity=0.99, specificity=0.99, known=0.995), BELONGS)
    assert found.facts.limit is None
    assert found.facts.flagged is None
    new = images(20, 3)
    for decision in found.decide(new.embeddings, new.logits):
        assert {finding.says for finding in decision.findings} == {"not calibrated"}
        assert not decision.unlike
    with pytest.raises(CalibrationError, match="some hundreds are needed"):
        fit(images(2, 2), Wanted(), BELONGS)


def test_a_picture_unlike_all_rules_nothing_out() -> None:
    fitted = fit(images(600, 1, spread=0.2), Wanted(), BELONGS)
    strange = np.random.default_rng(0).normal(size=(50, SIZE)).astype(np.float32)
    strange /= np.linalg.norm(strange, axis=1, keepdims=True)
    decisions = fitted.decide(strange, np.tile([30.0, 0, 0, 0], (50, 1)))
    assert np.mean([decision.unlike for decision in decisions]) > 0.95
    for decision in (decision for decision in decisions if decision.unlike):
        calibrated = [finding for finding in decision.findings if finding.says != "not calibrated"]
        assert {finding.says for finding in calibrated} == {"uncertain"}
        assert decision.likely == tuple(finding.label for finding in calibrated)


def test_the_temperature_is_found_again() -> None:
    """Logits that are three times too steep get a third of the slope that the others get."""
    plain, steep = (fit(images(3000, 4, scale=scale), Wanted(), BELONGS).facts.kinds for scale in (10.0, 30.0))
    for one, three in zip(plain, steep, strict=True):
        assert one.slopes[0] == pytest.approx(3 * three.slopes[0], rel=0.01)
        assert three.error_before is not None
        assert three.error_after is not None
        assert three.error_after < three.error_before


def test_findings_are_calibrated_each_for_itself() -> None:
    known = images(2000, 5, one=False)
    new = images(2000, 6, one=False)
    found = judge(fit(known, Wanted(), BELONGS), new)
    for place, kind in enumerate(found.facts.kinds):
        mine = new.of(new.kinds == place)
        shares = probabilities(kind, mine.logits, one=False)
        assert kind.likely_from is None
        for label, point in enumerate(kind.points):
            if point is not None:  # as often present as the probabilities say
                assert shares[:, label].mean() == pytest.approx(mine.truth[:, label].mean(), abs=0.05)


def test_scores_that_fall_where_the_label_holds_say_nothing() -> None:
    known = images(600, 5, one=False)
    turned = dataclasses.replace(known, logits=known.logits * np.array([-1, 1, 1, 1]))
    chest = fit(turned, Wanted(), BELONGS).facts.kinds[0]
    assert chest.points[0] is None
    assert chest.points[1] is not None


def test_unknown_truth_is_no_negative() -> None:
    known = images(900, 5, one=False)
    truth = known.truth.copy()
    truth[::3, 0] = np.nan
    found = fit(dataclasses.replace(known, truth=truth), Wanted(), BELONGS)
    point = found.facts.kinds[0].points[0]
    assert point is not None
    second = parts(known.groups, 0)[1]
    mine = second[known.kinds[second] == 0]
    assert point.positives + point.negatives == int((~np.isnan(truth[mine, 0])).sum())


def test_a_patient_is_in_one_part_and_intervals_are_over_patients() -> None:
    groups = np.repeat(np.arange(100), 6)
    cut = parts(groups, 0)
    assert sorted(np.concatenate(cut)) == list(range(600))
    assert not set(groups[cut[0]]) & set(groups[cut[1]])
    assert not set(groups[cut[2]]) & set(groups[np.concatenate(cut[:2])])
    # Six copies of an image are one patient: the interval is that of one image a patient.
    each = images(300, 4)
    alone = fit(each, Wanted(), BELONGS).facts.flagged
    copies = fit(each.of(np.repeat(np.arange(300), 6)), Wanted(), BELONGS).facts.flagged
    assert alone is not None
    assert copies is not None
    assert copies.count == 6 * alone.count
    assert copies.high - copies.low > 0.6 * (alone.high - alone.low)


def test_the_distance_is_mahalanobis() -> None:
    from sklearn.covariance import LedoitWolf

    known = images(500, 4)
    cells = known.truth.argmax(axis=1)
    density = fit_density(known.embeddings, cells)
    means = np.stack([known.embeddings[cells == cell].mean(axis=0) for cell in range(4)]).astype(np.float64)
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(known.embeddings - means[cells]).covariance_)
    away = images(20, 5).embeddings[:, None].astype(np.float64) - means
    squares = np.einsum("nkd,de,nke->nk", away, precision, away)
    found, places = density.nearest(images(20, 5).embeddings)
    assert found == pytest.approx(np.sqrt(squares.min(axis=1)), rel=1e-4)
    assert places.tolist() == squares.argmin(axis=1).tolist()


def test_a_file_gives_back_what_was_fitted(fitted: ScoreCalibration, tmp_path: Path) -> None:
    path = tmp_path / "scores.safetensors"
    path.write_bytes(fitted.to_bytes())
    again = ScoreCalibration.load(path, SIZE)
    assert again.facts == fitted.facts
    new = images(30, 3)
    assert again.decide(new.embeddings, new.logits) == fitted.decide(new.embeddings, new.logits)


def _with(facts: ScoreFacts, **kind: Any) -> dict[str, Any]:
    return dataclasses.asdict(
        dataclasses.replace(facts, kinds=(dataclasses.replace(facts.kinds[0], **kind), facts.kinds[1]))
    )


BAD_POINT = OperatingPoint(0.9, 0.1, 5, 5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda facts: {**dataclasses.asdict(facts), "format": 2}, "update medge"),
        (lambda facts: {**dataclasses.asdict(facts), "centres": [0, 1, 0]}, "3 centres|4 centres"),
        (lambda facts: {**dataclasses.asdict(facts), "centres": [0, 1, 0, 9]}, "kind that is not there"),
        (lambda facts: _with(facts, slopes=(1.0,)), "as many values as there are labels"),
        (lambda facts: _with(facts, points=(None,) * 4), "has no label"),
        (lambda facts: _with(facts, points=(BAD_POINT, *facts.kinds[0].points[1:])), "both present and absent"),
        (lambda facts: _with(facts, slopes=(-1.0, 1.0, 1.0, 1.0)), "slopes"),
        (lambda facts: {**dataclasses.asdict(facts), "strange": 1}, "strange"),
        (lambda facts: [], "no object"),
    ],
)
def test_damaged_files_are_refused(change: Any, said: str, fitted: ScoreCalibration, tmp_path: Path) -> None:
    path = tmp_path / "scores.safetensors"
    path.write_bytes(fitted.to_bytes())
    tensors: dict[str, NDArray[Any]] = load_file(path)
    save_file(tensors, path, {"facts": json.dumps(change(fitted.facts))})
    with pytest.raises(BundleError, match=said):
        ScoreCalibration.load(path, SIZE)


def test_a_file_of_another_width_is_refused(fitted: ScoreCalibration, tmp_path: Path) -> None:
    path = tmp_path / "scores.safetensors"
    path.write_bytes(fitted.to_bytes())
    with pytest.raises(BundleError, match="must be"):
        ScoreCalibration.load(path, SIZE + 1)
    with pytest.raises(BundleError, match="No such file"):
        ScoreCalibration.load(tmp_path / "none.safetensors", SIZE)


def test_a_kind_needs_two_labels() -> None:
    chest = images(300, 2)
    only = chest.of((chest.truth[:, 0] == 1) | (chest.kinds == 1))
    with pytest.raises(CalibrationError, match="all images of the kind 'chest film' have the label pneumonia"):
        fit(only, Wanted(), BELONGS)
