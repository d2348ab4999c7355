"""Pages of made-up runs: what they show, of which items, and that nothing of a name is obeyed or loaded."""

from __future__ import annotations

import re
from typing import Any

import pytest
import runs

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'medge[pages]'")

from medge.runtime.evaluation.pages import run
from medge.runtime.evaluation.pages.answers import LONGEST, examples, outcomes
from medge.runtime.evaluation.pages.opening import left_out
from medge.runtime.evaluation.pages.run import render_run

HOSTILE = ["$\\frac{$ <b>bold</b>", "\"'><script>alert(1)</script>", "_骨折 {{ 7 * 7 }}"]


def shown(facts: dict[str, Any], rows: list[runs.Row], headline: str = "macro_auc", **questions: str) -> str:
    """A page, with what must hold of each."""
    page = render_run(facts, rows, headline, questions)
    assert "Research, not a medical device" in page
    assert facts["task"]["protocol"] in page
    assert not re.search(r'(src|href)="(?!#)', page.replace('xlink:href="#', ""))  # it loads nothing
    assert "<script" not in page
    assert "<img" not in page
    assert "None" not in page
    return page


def test_images_with_one_label() -> None:
    labels = ["normal", "fracture", "arthrosis"]
    page = shown(runs.image_run(labels), runs.image_rows(labels, 40))
    for said in (
        "Macro AUC 0.812 (95% interval 0.751 to 0.873) over 40 images of 20 patients, zero-shot",
        "over patients", "131.0 MB", "2.5 MB", "0.250 s an image", "2026-11-26", "a hospital, 2026", "vision int8, text int8",
        "Of 48 images 41 were drawn at random with seed 0 (--limit 41).", "1 image could not be read",
        "7 images that the data name were not in the folder", "3 images with labels that the task does not know: cast (3)",
        "sex: F", "fewer than 20 images have it: age: 80 and over (3)", "and 2 more", "Confusion matrix",
    ):  # fmt: skip
        assert said in page, said
    assert page.count("<svg") == 3 + 2  # a ROC a label, reliability, subgroups
    # 14 are normal; 0, 15 and 30 were taken for a fracture.
    assert re.search(r'1 normal</td><td class="n right">11</td><td class="n">3</td>', page)
    assert page.count("Task wrists, zero-shot, 40 images.") == 5  # beside every table and the curves
    assert "films/" not in page  # a file's name can be a patient's
    assert "patient 3" not in page


@pytest.mark.parametrize(("parity", "warned"), [("passed", False), ("original", False), ("failed", True)])
def test_a_verdict_that_is_no_good_is_told_at_the_top(parity: str, warned: bool) -> None:
    labels = ["normal", "fracture"]
    page = shown(runs.image_run(labels, model={"parity": parity}), runs.image_rows(labels, 40))
    assert ("parity with its original: failed." in page) == warned
    assert ('class="verdict warn"' in page) == warned


def test_findings_of_which_not_all_is_known() -> None:
    labels = ["edema", "mass"]
    page = shown(runs.image_run(labels, one=False), runs.image_rows(labels, 40, one=False))
    assert "no operating point" in page
    assert "probability of a finding" in page  # matplotlib notes beside each drawn text what it says
    assert "Confusion matrix" not in page


def test_findings_that_a_language_model_was_asked_for() -> None:
    """There are no scores, and so no curves and no AUC."""
    labels = ["edema", "mass"]
    facts = runs.image_run(labels, one=False, method="ask", task={"prompts": {"edema": "Is there <edema>?"}})
    for found in facts["labels"].values():
        del found["auc"]
    rows = [{name: cell for name, cell in row.items() if "score" not in name} for row in runs.image_rows(labels, 40)]
    page = shown(facts, rows)
    assert "Is there &lt;edema&gt;?" in page
    assert "ROC by label" not in page
    assert page.count("<svg") == 1  # subgroups


def test_what_names_hold_is_text() -> None:
    facts = runs.image_run(HOSTILE)
    facts["bundle"], facts["task"]["title"] = "<i>eyes</i>", "{{ 7 * 7 }}"
    page = shown(facts, runs.image_rows(HOSTILE, 40))
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold" in page
    assert "{{ 7 * 7 }}" in page
    assert "&lt;i&gt;eyes" in page


def test_many_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MOST_CURVES", 2)
    monkeypatch.setattr(run, "WIDEST", 5)
    labels = [f"label {number}" for number in range(6)]
    page = shown(runs.image_run(labels), runs.image_rows(labels, 40))
    assert page.count('aria-label="ROC of') == 2
    assert "The 2 labels with most images." in page
    assert "Commonest mistakes" in page


def test_a_probe() -> None:
    labels = ["normal", "fracture"]
    few = {"value": 0.6, "low": 0.4, "high": 0.8}
    shares = {
        "0.01": {"trained_on": 1, "too_few": "one image is not enough"},
        "0.1": {"trained_on": 10, "figures": {"macro_auc": few}},
        "1.0": {"trained_on": 100, "figures": {"macro_auc": runs.FIGURE}},
    }
    facts = runs.image_run(labels, method="probe", task={"fitted": "somehow", "split": "the data's own"}, shares=shares)
    del facts["seconds_an_item"]
    page = shown(facts, runs.image_rows(labels, 40))
    assert 'aria-label="Probe by number of labels"' in page
    for said in ("one image is not enough", "0.600", "10%", "100 images", "somehow", "not recorded"):
        assert said in page, said
    del shares["0.1"]
    assert "Probe by number of labels" not in shown(
        facts, runs.image_rows(labels, 40)
    )  # of one share there is no curve


def test_questions_with_options() -> None:
    rows = runs.letter_rows()
    page = shown(runs.letter_run(), rows, "accuracy", **{"1": "What is it?\n(A) flu\n(B) <tb>"})
    for said in (
        "Accuracy 0.812", "step by step", "2 questions did not fit", "2 answers ended at the limit of 64 tokens",
        "What is it?", "(B) &lt;tb&gt;", "It is &lt;b&gt;tuberculosis", "nothing that could be read", "The first 8 of 8",
        "fewer than 20 questions have it: subject: lung (10)",
    ):  # fmt: skip
        assert said in page, said
    counted = dict(outcomes(rows))
    assert counted == {
        "right": 2, "wrong": 2, "too long for the context": 2, "cut off before it answered": 2, "no answer that could be read": 2
    }  # fmt: skip


def test_questions_about_images() -> None:
    rows = runs.short_rows()
    page = shown(runs.short_run(no_names=True), rows, "token_f1")
    assert "hashed (--no-names)" in page
    assert ".png" not in page
    assert dict(outcomes(rows)) == {"right": 1, "wrong": 1}  # closed ones
    found, wrong = examples(rows, {})
    assert [one.name for one in found] == ["1", "3"]  # a closed one, and an open one that shares no word
    assert wrong == 2


def test_of_a_long_answer_the_end_is_shown() -> None:
    [one], _ = examples([{"id": "1", "label": "A", "answer": "B", "text": "x" * LONGEST + "(B)"}], {"1": "short"})
    assert one.said.endswith("(B)")
    assert len(one.said) == LONGEST + 2
    assert one.question == "short"


def test_without_an_item() -> None:
    facts = runs.image_run(["normal", "fracture"], model={"parity": "failed"})
    for name in ("figures", "labels", "subgroups"):
        del facts[name]
    page = shown(facts, [])
    assert "No image could be evaluated" in page
    assert "<svg" not in page
    page = shown(runs.letter_run(model={"parity": "not measured", "peak_bytes": None}), runs.letter_rows(), "accuracy")
    assert "parity with its original: not measured." in page


def test_nothing_is_left_out_where_all_was_done() -> None:
    facts = runs.letter_run() | {"items": {"evaluated": 10, "in_the_data": 10}}
    assert left_out(facts) == ["Nothing: all 10 questions were evaluated."]
