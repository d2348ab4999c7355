"""Questions with options: how sets are read, what is put, and which letter an answer means."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medge.runtime.bundles.metrics import wilson
from medge.runtime.errors import TaskError
from medge.runtime.evaluation.answers.letters import figures_of_answers, letter_of, likelihoods, prompt_of
from medge.runtime.evaluation.answers.short import agrees, figures_of_short_answers, token_f1
from medge.runtime.evaluation.items import ImageQuestion, Question
from medge.runtime.evaluation.layouts.choices import Choices
from medge.runtime.evaluation.task import NamedQuestions, read_task


def questions_in(folder: Path, task: str) -> list[Question]:
    named = read_task(task)
    assert isinstance(named, NamedQuestions)
    return [one for one in named.layout.read(folder, named.name).questions if isinstance(one, Question)]


def image_questions_in(folder: Path, task: str) -> list[ImageQuestion]:
    named = read_task(task)
    assert isinstance(named, NamedQuestions)
    return [one for one in named.layout.read(folder, named.name).questions if isinstance(one, ImageQuestion)]


def test_sets_as_they_are_handed_out(shared: Path) -> None:
    medqa = questions_in(shared / "medqa", "medqa")
    assert len(medqa) == 1000
    assert medqa[0].options[medqa[0].right] == "Avoidant personality disorder"
    assert medqa[0].text.endswith("most consistent with her behavior?")  # without the list of options below it
    medmcqa = questions_in(shared / "medmcqa", "medmcqa")
    assert len(medmcqa) == 3183
    assert (medmcqa[0].text, medmcqa[0].options[medmcqa[0].right]) == ("Father of statistics", "John Graunt")
    assert (medmcqa[0].key, medmcqa[0].subject) == ("d2b086eb-138b-4104-b30c-7e54f00b0d1c", "Dental")
    pubmedqa = questions_in(shared / "pubmedqa", "pubmedqa")
    assert len(pubmedqa) == 800
    assert pubmedqa[0].options == ("yes", "no", "maybe")
    assert pubmedqa[0].text.startswith("Specific markers for differentiation")
    assert pubmedqa[0].text.endswith("are routine laboratory markers useful?")
    mmlu = questions_in(shared / "mmlu", "mmlu-medical")
    assert (len(mmlu), mmlu[0].subject, mmlu[0].right) == (818, "anatomy", 0)


MEDMCQA = Choices(("*.jsonl",), "question", ("cop",), "number", ("opa", "opb", "opc", "opd"))


@pytest.mark.parametrize(("cops", "right"), [([1, 4, 2], [0, 3, 1]), ([0, 3, 2], [0, 3, 2])])
def test_numbers_count_from_0_or_from_1(tmp_path: Path, cops: list[int], right: list[int]) -> None:
    lines = [json.dumps({"question": "?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": cop}) for cop in cops]
    (tmp_path / "dev.jsonl").write_text("\n".join(lines))
    found = MEDMCQA.read(tmp_path, "medmcqa").questions
    assert [question.right for question in found if isinstance(question, Question)] == right


def test_what_is_not_clear_is_refused(tmp_path: Path) -> None:
    entry = {"question": "?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 2}
    (tmp_path / "dev.jsonl").write_text(json.dumps(entry))
    with pytest.raises(TaskError, match="nothing says whether they count from 0 or from 1"):
        MEDMCQA.read(tmp_path, "medmcqa")
    (tmp_path / "dev.jsonl").write_text(json.dumps({**entry, "cop": 0}) + "\n" + json.dumps({**entry, "cop": 7}))
    with pytest.raises(TaskError, match="entry 1: the answer '7'"):
        MEDMCQA.read(tmp_path, "medmcqa")
    (tmp_path / "dev.jsonl").write_text(json.dumps({"question": "?", "cop": 0}))
    with pytest.raises(TaskError, match="'opa'"):
        MEDMCQA.read(tmp_path, "medmcqa")
    (tmp_path / "dev.jsonl").write_text("[1]")
    with pytest.raises(TaskError, match="entry 0 is no object"):
        MEDMCQA.read(tmp_path, "medmcqa")
    (tmp_path / "dev.jsonl").unlink()
    with pytest.raises(TaskError, match="jsonl is not in there"):
        MEDMCQA.read(tmp_path, "medmcqa")


def test_parquet_is_read(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    rows = [{"question": "Which?", "options": {"A": "this", "B": "that"}, "answer": "that", "answer_idx": "B"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test-00000.parquet")
    assert questions_in(tmp_path, "medqa") == [Question("0", "Which?", ("this", "that"), 1)]


def test_a_prompt_holds_the_question_as_it_is() -> None:
    question = Question("1", "What is {options}?", ("{question}", "b"), 0)
    assert prompt_of("Q: {question}\n{options}\nEnd.", question) == "Q: What is {options}?\n(A) {question}\n(B) b\nEnd."


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("... Final Answer: (C)", "C"), ("Final Answer: C", "C"), ("**Final Answer:** (b)", "B"), ("final answer is (D).", "D"),
        ("Final Answer: (A)\nNo: Final Answer: (B)", "B"), ("(D)", "D"), ("d.", "D"),
        ("The final answer: (E)", ""), ("I think (A) or (B)", ""), ("Final Answer: a drug", ""),
        ("Final Answer: A drug", ""), ("Final Answer: C. A drug", "C"),
        ("Final Answer: C) A drug", "C"), ("Final Answer: **B**", "B"), ("FINAL ANSWER: (a", "A"), ("", ""),
        ("Final Answer: Diabetes", ""), ("The answer is A", ""),
    ],
)  # fmt: skip
def test_the_letter_of_an_answer(answer: str, letter: str) -> None:
    assert letter_of(answer, 4) == letter


def test_likelihoods_are_of_the_whole_vocabulary() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32))
    np.testing.assert_allclose(likelihoods(logits + 7, [1, 3]), np.log([0.25, 0.125]), rtol=1e-6)


def test_an_answer_that_can_not_be_read_is_wrong() -> None:
    rows = [{"label": "A", "answer": "A", "subject": "x"}] * 20 + [{"label": "A", "answer": "", "subject": "y"}] * 5
    found = figures_of_answers(rows)
    assert found["figures"]["accuracy"]["value"] == pytest.approx(0.8)
    assert found["figures"]["accuracy"]["low"] == pytest.approx(wilson(20, 25)[0])
    assert found["figures"]["answered"]["value"] == pytest.approx(0.8)
    assert list(found["subgroups"]["subject"]) == ["x"]


def test_vqa_rad_as_it_is_handed_out(shared: Path) -> None:
    found = image_questions_in(shared / "vqa_rad", "vqa-rad")
    entries = [
        one for one in json.loads((shared / "vqa_rad" / "qa.json").read_text()) if one["phrase_type"].startswith("test")
    ]
    there = {path.name for path in (shared / "vqa_rad" / "images").iterdir()}
    assert len(found) == sum(one["image_name"] in there for one in entries) > 50
    aneurysm = next(one for one in found if one.key == "10")
    assert (aneurysm.text, aneurysm.answer) == ("Is there evidence of an aortic aneurysm?", "yes")
    assert (aneurysm.closed, aneurysm.image, aneurysm.subject) == (True, "synpic42202.jpg", "chest")
    assert isinstance(aneurysm.open(), Path)


def test_slake_and_path_vqa(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    (tmp_path / "imgs" / "xmlab1").mkdir(parents=True)
    (tmp_path / "imgs" / "xmlab1" / "source.jpg").write_bytes(b"1")
    entry = {
        "img_name": "xmlab1/source.jpg",
        "question": "Which?",
        "answer": "MRI",
        "answer_type": "OPEN",
        "modality": "MRI",
    }
    lines = [
        {**entry, "qid": 1, "q_lang": "en"},
        {**entry, "qid": 2, "q_lang": "zh"},
        {**entry, "qid": 3, "img_name": "no.jpg"},
    ]
    (tmp_path / "test.json").write_text(json.dumps(lines))
    [one] = image_questions_in(tmp_path, "slake")
    assert (one.key, one.closed, one.subject) == ("1", False, "mri")
    rows = [{"image": {"bytes": b"abc", "path": None}, "question": "Is it?", "answer": "no"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test-00000-of-00001.parquet")
    [one] = image_questions_in(tmp_path, "path-vqa")
    assert (one.open(), one.closed) == (b"abc", True)
    (tmp_path / "imgs" / "xmlab1" / "source.jpg").unlink()
    with pytest.raises(TaskError, match="no image that the questions of 'slake' name"):
        image_questions_in(tmp_path, "slake")


@pytest.mark.parametrize(
    ("said", "right", "f1"),
    [
        ("The left lung.", "left lung", 1), ("left upper lobe", "left lung", 0.4), ("heart", "lung", 0), ("", "lung", 0),
        ("lung lung", "lung", 2 / 3), ("", "", 1),
    ],
)  # fmt: skip
def test_token_f1(said: str, right: str, f1: float) -> None:
    assert token_f1(said, right) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("said", "right", "same"),
    [
        ("Yes, there is.", "yes", True), ("There is no sign, yes?", "yes", False), ("not sure", "no", False),
        ("The axial plane", "axial", False), ("Axial.", "axial", True),
    ],
)  # fmt: skip
def test_closed_answers(said: str, right: str, same: bool) -> None:
    assert agrees(said, right) is same


def test_intervals_of_answers_are_over_images() -> None:
    rng = np.random.default_rng(0)
    single = [
        {"f1": float(value), "right": int(value), "image": str(n), "subject": ""}
        for n, value in enumerate(rng.integers(0, 2, 30))
    ]
    copied = [row for row in single for _ in range(4)]
    one, four = (figures_of_short_answers(rows)["figures"] for rows in (single, copied))
    assert one["token_f1"] == pytest.approx(four["token_f1"])
    assert one["closed_accuracy"]["low"] == pytest.approx(
        wilson(sum(row["right"] for row in single), 30)[0]
    )  # each image has one question
    assert one["closed_accuracy"]["value"] == pytest.approx(np.mean([row["right"] for row in single]))
    open_only = figures_of_short_answers([{**row, "right": ""} for row in single])
    assert list(open_only["figures"]) == ["token_f1"]
