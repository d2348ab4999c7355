"""Two models on the same items: what must hold of any comparison, and what was computed by hand."""

from math import comb

import numpy as np
import pytest
from scipy.stats import binomtest

from medge.runtime.evaluation.compare import (
    compare_judged,
    compare_letters,
    compare_short_answers,
    flips_of,
    mcnemar,
    mean_difference,
    paired_interval,
)
from medge.runtime.evaluation.figures import Judged, figures_of

LABELS = ("a", "b", "c")


def judged(seed: int, *, one: bool = True, groups: int = 60, count: int = 60) -> Judged:
    """Scores of which about half are right, of the same items whatever the seed."""
    true = np.random.default_rng(5).integers(0, 3, count)
    rng = np.random.default_rng(seed)
    truth = np.eye(3)[true]
    scores = rng.dirichlet(np.ones(3), count) + 0.4 * truth
    if not one:
        truth[::7, 1] = np.nan
    return Judged(LABELS, scores / scores.sum(1, keepdims=True), truth, np.arange(count) % groups, one)


def test_mcnemar_by_hand() -> None:
    # 9 of 10 changes to the worse: (C(10, 0) + C(10, 1)) / 2^10 on either side.
    assert mcnemar(9, 1) == pytest.approx(2 * (1 + 10) / 1024)
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert (mcnemar(0, 0), mcnemar(4, 4)) == (1, 1)
    assert mcnemar(30, 17) == mcnemar(17, 30) == pytest.approx(2 * sum(comb(47, k) for k in range(18)) / 2**47)


def test_mcnemar_of_many_changes_is_the_binomial_test() -> None:
    for lost, won in ((1300, 1400), (40_000, 40_300), (3, 5000)):
        assert mcnemar(lost, won) == pytest.approx(binomtest(lost, lost + won).pvalue, rel=1e-7, abs=1e-300)


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("groups", [60, 20])
def test_a_run_against_itself_differs_in_nothing(one: bool, groups: int) -> None:
    found = compare_judged(judged(1, one=one, groups=groups), judged(1, one=one, groups=groups))
    figures = [*found["figures"].values(), *(row[name] for row in found["labels"].values() for name in ("auc", "f1"))]
    assert figures
    assert all(figure["value"] == 0 and figure["low"] <= 0 <= figure["high"] for figure in figures)
    flips = [row["answers"] for row in found["labels"].values()] + ([found["answers"]] if one else [])
    for row in flips:
        assert (row["right_to_wrong"], row["wrong_to_right"], row["wrong_to_other_wrong"], row["p"]) == (0, 0, 0, 1)
        assert row["count"] > 10


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("groups", [60, 20])
def test_sides_that_are_swapped_mirror_the_result(one: bool, groups: int) -> None:
    first, second = judged(1, one=one, groups=groups), judged(2, one=one, groups=groups)
    there, back = compare_judged(first, second), compare_judged(second, first)
    pairs = [(there["figures"][name], back["figures"][name]) for name in there["figures"]]
    pairs += [
        (there["labels"][label][name], back["labels"][label][name])
        for label in LABELS
        for name in ("auc", "sensitivity", "specificity", "f1")
    ]
    for one_way, other_way in pairs:
        assert one_way["first"] == other_way["second"]
        assert [one_way[name] for name in ("value", "low", "high")] == pytest.approx(
            [-other_way[name] for name in ("value", "high", "low")]
        )
    flips = [(there["labels"][label]["answers"], back["labels"][label]["answers"]) for label in LABELS]
    flips += [(there["answers"], back["answers"])] if one else []
    assert any(row["right_to_wrong"] != row["wrong_to_right"] for row, _ in flips)
    for row, mirrored in flips:
        assert row["right_to_wrong"] == mirrored["wrong_to_right"]
        assert (row["wrong_to_other_wrong"], row["p"]) == (mirrored["wrong_to_other_wrong"], mirrored["p"])


def test_differences_are_those_of_the_runs_figures() -> None:
    first, second = judged(1, groups=20), judged(2, groups=20)
    found = compare_judged(first, second)
    figures = [figures_of(one, rounds=False) for one in (first, second)]
    for name, figure in found["figures"].items():
        ends = [one["figures"][name]["value"] for one in figures]
        assert (figure["first"], figure["second"]) == pytest.approx(ends)
        assert figure["value"] == pytest.approx(ends[1] - ends[0])
        assert figure["low"] < figure["value"] < figure["high"]
    for label in LABELS:
        sensitivity = [one["labels"][label]["sensitivity"]["value"] for one in figures]
        assert found["labels"][label]["sensitivity"]["value"] == pytest.approx(sensitivity[1] - sensitivity[0])


def test_flips_are_counted_by_hand() -> None:
    truth = np.eye(3)[[0, 0, 1, 1, 2]]
    first = Judged(LABELS, np.eye(3)[[0, 0, 0, 2, 1]], truth, np.arange(5), True)
    second = Judged(LABELS, np.eye(3)[[0, 1, 1, 0, 1]], truth, np.arange(5), True)
    found = compare_judged(first, second)

    def counts(row: dict[str, float]) -> tuple[float, ...]:
        return row["count"], row["right_to_wrong"], row["wrong_to_right"], row["wrong_to_other_wrong"]

    assert counts(found["answers"]) == (5, 1, 1, 1)
    assert [counts(found["labels"][label]["answers"]) for label in LABELS] == [(2, 1, 0, 0), (2, 0, 1, 1), (1, 0, 0, 0)]
    assert found["figures"]["accuracy"]["value"] == 0


def test_findings_flip_at_a_half_where_they_are_known() -> None:
    truth = np.array([[1, 0], [1, np.nan], [0, 1], [np.nan, 1]])
    first = Judged(("x", "y"), np.array([[0.6, 0.1], [0.4, 0.9], [0.2, 0.5], [0.9, 0.2]]), truth, np.arange(4), False)
    second = Judged(("x", "y"), np.array([[0.4, 0.7], [0.5, 0.1], [0.3, 0.6], [0.1, 0.8]]), truth, np.arange(4), False)
    found = compare_judged(first, second)
    assert found["answers"] is None
    x, y = (found["labels"][label]["answers"] for label in ("x", "y"))
    assert (x["count"], x["right_to_wrong"], x["wrong_to_right"], x["p"]) == (3, 1, 1, 1)
    assert (y["count"], y["right_to_wrong"], y["wrong_to_right"]) == (3, 1, 1)
    assert (x["wrong_to_other_wrong"], y["wrong_to_other_wrong"]) == (0, 0)  # there are two answers only


def test_the_interval_contains_the_truth_about_as_often_as_it_says() -> None:
    """Pairs of proportions, of which most are right in both; 300 times, so that 95% are within 3.8 points of what is counted."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        lost, won, _both, _none = rng.multinomial(80, [0.08, 0.03, 0.7, 0.19])
        low, high = paired_interval(int(lost), int(won), 80)
        hits += low <= -0.05 <= high
    assert 0.91 <= hits / 300 <= 0.995


def test_the_bootstrap_over_patients_contains_the_truth() -> None:
    """Patients with three films that share a difference: an interval over films would be too narrow."""
    rng = np.random.default_rng(4)
    patients, groups = 30, np.repeat(np.arange(30), 3)
    hits = wide = 0
    for _ in range(24):
        first = rng.normal(0, 1, 90)
        second = first + 0.2 + np.repeat(rng.normal(0, 0.5, patients), 3) + rng.normal(0, 0.1, 90)
        found = mean_difference(first, second, groups)
        assert found["low"] is not None
        assert found["high"] is not None
        hits += found["low"] <= 0.2 <= found["high"]
        films = 2 * 1.96 * (second - first).std() / np.sqrt(90)
        wide += found["high"] - found["low"] > 1.3 * films
    assert hits >= 20
    assert wide >= 22  # sqrt(3) is what theory says


def test_no_change_among_few_is_no_proof() -> None:
    same = np.ones(40)
    found = mean_difference(same, same, np.arange(40))
    assert found["value"] == 0
    assert found["low"] is not None
    assert found["low"] < -0.05


def test_letters() -> None:
    first = [{"label": label, "answer": answer} for label, answer in ("AA", "AB", "BB", "AC", "DD")]
    second = [
        {"label": label, "answer": answer} for label, answer in (("A", "A"), ("A", ""), ("B", "A"), ("A", "A"), "DD")
    ]
    found = compare_letters(first, second)
    assert found["figures"]["accuracy"]["first"] == pytest.approx(3 / 5)
    assert found["figures"]["accuracy"]["value"] == 0
    assert found["figures"]["answered"]["value"] == pytest.approx(-1 / 5)
    row = found["answers"]
    assert (row["right_to_wrong"], row["wrong_to_right"], row["wrong_to_other_wrong"]) == (1, 1, 1)


def test_short_answers() -> None:
    def row(image: str, answer: str, f1: float, right: object) -> dict[str, object]:
        return {"image": image, "answer": answer, "f1": f1, "right": right}

    first = [row("i", "yes", 1, "1"), row("i", "left lung", 0.5, ""), row("j", "no", 0, 0)]
    second = [row("i", "no", 0, "0"), row("i", "left lung base", 0.8, None), row("j", "never", 0, 0)]
    found = compare_short_answers(first, second)
    assert found["figures"]["token_f1"]["value"] == pytest.approx(0.8 / 3 - 0.5)
    assert found["figures"]["closed_accuracy"]["value"] == pytest.approx(-0.5)
    flips = found["answers"]
    assert (flips["count"], flips["right_to_wrong"], flips["wrong_to_other_wrong"]) == (2, 1, 1)
    assert compare_short_answers(first[1:2], second[1:2])["answers"] is None


def test_flips_of_nothing() -> None:
    none = np.zeros(0, bool)
    assert flips_of(none, none, none)["p"] == 1
