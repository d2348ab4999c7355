"""Findings that a language model was asked for: what an answer means, and macro F1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from medge.runtime.errors import TaskError
from medge.runtime.evaluation.answers.findings import figures_of_findings, known_of, said_of
from medge.runtime.evaluation.compare import compare_findings
from medge.runtime.evaluation.items import Item
from medge.runtime.evaluation.task import Named, parse_task, read_task

LABELS = ["Edema", "Fracture"]
WORD = {1: "Yes.", 0: "No.", None: "I can't tell."}


def row(truth: dict[str, bool], said: dict[str, int | None], group: str = "", **about: str) -> dict[str, Any]:
    item = Item("film", Path, truth, group, about)
    return {**known_of(item, LABELS), **said_of({label: WORD[one] for label, one in said.items()})}


def random_rows(seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        row({label: bool(rng.integers(2)) for label in LABELS}, {label: int(rng.integers(2)) for label in LABELS})
        for _ in range(60)
    ]


def test_rows_say_what_was_answered() -> None:
    told = row({"Edema": True}, {"Edema": None, "Fracture": 1}, "p1", sex="F")
    assert told == {
        "label": "Edema", "group": "p1", "about sex": "F", "true Edema": 1, "true Fracture": None, "answer": "Fracture",
        "said Edema": None, "said Fracture": 1,
    }  # fmt: skip


def test_macro_f1_is_that_of_scikit_learn() -> None:
    rows = random_rows(0)
    found = figures_of_findings(rows, LABELS)
    by_label = [f1_score([one[f"true {n}"] for one in rows], [one[f"said {n}"] for one in rows]) for n in LABELS]
    macro = found["figures"]["macro_f1"]
    assert macro["value"] == pytest.approx(np.mean(by_label))
    assert macro["low"] < macro["value"] < macro["high"]
    assert [found["labels"][name]["f1"]["value"] for name in LABELS] == pytest.approx(by_label)
    assert list(found["figures"]) == ["macro_f1"]  # yes and no have no area under a curve
    assert "auc" not in found["labels"]["Edema"]


def test_what_can_not_be_read_is_wrong_and_what_is_not_known_does_not_count() -> None:
    rows = [
        row({"Edema": True}, {"Edema": 1, "Fracture": 0}),
        row({"Edema": True, "Fracture": False}, {"Edema": None, "Fracture": None}),  # a miss, and a false alarm
        row({"Edema": False, "Fracture": True}, {"Edema": None, "Fracture": 1}),
    ]
    labels = figures_of_findings(rows, LABELS)["labels"]
    assert labels["Edema"]["f1"]["value"] == pytest.approx(2 / (2 + 1 + 1))
    assert labels["Fracture"]["f1"]["value"] == pytest.approx(2 / (2 + 1))
    assert [labels[name]["unreadable"] for name in LABELS] == [2, 1]
    assert [labels[name]["known"] for name in LABELS] == [3, 2]
    as_csv = [{name: "" if value is None else str(value) for name, value in one.items()} for one in rows]
    assert figures_of_findings(as_csv, LABELS)["labels"] == labels


def test_intervals_are_over_patients() -> None:
    once = [{**one, "group": str(place)} for place, one in enumerate(random_rows(1))]
    thrice = [one for one in once for _ in range(3)]
    assert figures_of_findings(once, LABELS)["figures"] == figures_of_findings(thrice, LABELS)["figures"]


def test_subgroups_have_macro_f1_only() -> None:
    rows = [{**one, "about sex": "F" if place % 3 else "M"} for place, one in enumerate(random_rows(2))]
    groups = figures_of_findings(rows, LABELS)["subgroups"]["sex"]
    assert {value: found["count"] for value, found in groups.items()} == {"F": 40, "M": 20}
    assert list(groups["F"]["figures"]) == ["macro_f1"]


def test_two_models_are_compared_by_f1_and_flips() -> None:
    first, second = random_rows(3), [dict(one) for one in random_rows(3)]
    for one in second[:10]:
        one["said Edema"] = one["true Edema"]
    found = compare_findings(first, second, LABELS)
    assert list(found["figures"]) == ["macro_f1"]
    assert found["figures"]["macro_f1"]["value"] > 0
    wrong = sum(one["said Edema"] != one["true Edema"] for one in first[:10])
    assert found["labels"]["Edema"]["answers"]["wrong_to_right"] == wrong > 0
    assert found["labels"]["Fracture"]["answers"]["wrong_to_right"] == 0


@pytest.mark.parametrize("name", ["chexpert", "mimic-cxr", "nih-cxr14", "nih-cxr14-adjudicated"])
def test_chest_films_can_be_asked_about(name: str) -> None:
    named = read_task(name)
    assert isinstance(named, Named)
    for label in named.task.labels:
        assert named.task.labels[label].texts[0] in named.task.question(label)


def test_a_wrong_prompt_is_refused() -> None:
    text = (Path(__file__).parents[3] / "runtime" / "evaluation" / "tasks" / "chexpert.toml").read_text()
    for wrong in (text.replace("evidence of {}", "evidence"), text.replace('form = "findings"', 'form = "one label"')):
        with pytest.raises(TaskError, match='"ask" is for findings, its prompt needs {} once'):
            parse_task("mine", wrong, "mine.toml")
