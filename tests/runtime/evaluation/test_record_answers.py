"""Questions over records: how answers are compared, how questions are read, and whether those that are made are true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripts import load_script

from medge.runtime.assistants.fhir import read_record
from medge.runtime.errors import TaskError
from medge.runtime.evaluation.answers.records import date_in, figures_of_records, score_of
from medge.runtime.evaluation.compare import compare_records
from medge.runtime.evaluation.items import AnswerKind, RecordQuestion
from medge.runtime.evaluation.task import NamedQuestions, read_task


@pytest.mark.parametrize(
    ("said", "right", "kind", "hit"),
    [
        ("141 mmHg", "141.2 mm[Hg]", "number", True),
        ("On 2019-01-02 it was 141.2 mm Hg.", "141.2 mm[Hg]", "number", True),
        ("141.2", "141.2 mm[Hg]", "number", False),  # no unit
        ("141.2 mmol/L", "141.2 mm[Hg]", "number", False),
        ("14.1 mg/dL", "14.12 mg", "number", False),
        ("142 mmHg", "141.2 mm[Hg]", "number", False),
        ("8.13 10^3/uL", "8.13364 10*3/uL", "number", True),
        ("3", "3 {score}", "number", True),
        ("There are 6 encounters", "6", "number", True),
        ("1,230 g", "1234 g", "number", True),
        ("-2.5 Cel", "2.5 Cel", "number", False),
        ("unknown", "6", "number", False),
        ("It was given on 2019-03-20T10:00:00Z", "2019-03-20", "date", True),
        ("March 20th, 2019", "2019-03-20", "date", True),
        ("on 20 March 2019, after 2018-01-01", "2019-03-20", "date", True),
        ("2019-03", "2019-03-20", "date", False),
        ("03/20/2019", "2019-03-20", "date", False),
        ("no date", "2019-03-20", "date", False),
        ("Yes, it does", "yes", "yes or no", True),
        ("It is not known", "no", "yes or no", False),
        ("- Aspirin 81 MG\n- Simvastatin", "Simvastatin; Aspirin 81 MG", "list", True),
        ("aspirin 81 mg, simvastatin", "Aspirin 81 MG; Simvastatin", "list", True),
        ("Influenza, seasonal; Td (adult)", "Td (adult); Influenza, seasonal", "list", True),
        ("Influenza, seasonal", "Influenza, seasonal", "list", True),
        ("None.", "none", "list", True),
        ("Aspirin", "none", "list", False),
        ("", "none", "list", True),
        ("the Left arm", "left arm", "text", True),
        ("left leg", "left arm", "text", False),
    ],
)
def test_answers(said: str, right: str, kind: AnswerKind, hit: bool) -> None:
    assert score_of(said, right, kind) == (int(hit), 1.0 if hit else 0.0)


def test_a_list_that_is_right_in_part() -> None:
    assert score_of("aspirin; simvastatin; warfarin", "Aspirin; Metformin", "list") == (0, pytest.approx(2 / 5))


def test_the_first_date_counts_whatever_its_form() -> None:
    assert date_in("between May 3, 2001 and 2000-01-01") == "2001-05-03"
    assert date_in("in 1999") == "1999"
    assert date_in("12345 or 2001-02-03-04") == ""


def rows_of(hits: str, kinds: str) -> list[dict[str, Any]]:
    names = {"n": "number", "l": "list"}
    return [
        {"kind": names[kind], "right": int(hit), "f1": float(hit), "group": str(place // 2), "answer": hit}
        for place, (hit, kind) in enumerate(zip(hits, kinds, strict=True))
    ]


def test_figures_by_kind_and_over_patients() -> None:
    rows = rows_of("110010", "nnlnll")
    found = figures_of_records(rows)
    assert found["figures"]["accuracy"]["value"] == pytest.approx(1 / 2)
    assert found["figures"]["list_f1"]["value"] == pytest.approx(1 / 3)
    kinds = found["subgroups"]["kind"]
    assert {kind: (one["count"], one["figures"]["accuracy"]["value"]) for kind, one in kinds.items()} == {
        "list": (3, pytest.approx(1 / 3)), "number": (3, pytest.approx(2 / 3))
    }  # fmt: skip
    assert "list_f1" not in kinds["number"]["figures"]
    rng = np.random.default_rng(0)
    many = [{**one, "right": int(rng.integers(2)), "group": str(n)} for n, one in enumerate(rows * 5)]
    twice = [one for one in many for _ in range(2)]
    low = [figures_of_records(each)["figures"]["accuracy"]["low"] for each in (many, twice)]
    assert low[0] == pytest.approx(low[1], abs=0.05)


def test_two_models_on_the_same_questions() -> None:
    found = compare_records(rows_of("110010", "nnlnll"), rows_of("111000", "nnlnll"))
    assert found["figures"]["accuracy"]["value"] == 0
    assert (found["answers"]["wrong_to_right"], found["answers"]["right_to_wrong"]) == (1, 1)
    assert found["figures"]["list_f1"]["value"] == 0


def questions_in(folder: Path) -> list[RecordQuestion]:
    named = read_task("fhir-questions")
    assert isinstance(named, NamedQuestions)
    return [one for one in named.layout.read(folder, named.name).questions if isinstance(one, RecordQuestion)]


ENTRY = {"record": "a.json", "question": "When was the patient born?", "kind": "date", "answer": "1950-02-03"}


def write_questions(folder: Path, *entries: dict[str, Any]) -> None:
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, entries)))


def test_questions_as_they_lie_beside_synthea_s_output(tmp_path: Path) -> None:
    (tmp_path / "output" / "fhir").mkdir(parents=True)
    (tmp_path / "output" / "fhir" / "a.json").write_text("{}")
    vaccines = {**ENTRY, "id": "v", "kind": "list", "answer": ["Td", "Influenza, seasonal"]}
    write_questions(tmp_path, ENTRY, vaccines, {**ENTRY, "record": "b.json"}, {**ENTRY, "kind": "number", "answer": 6})
    first, second, third = questions_in(tmp_path)
    assert (first.key, first.group, first.record) == ("0", "a.json", tmp_path / "output" / "fhir" / "a.json")
    assert (second.key, second.answer) == ("v", "Td; Influenza, seasonal")
    assert third.answer == "6"
    named = read_task("fhir-questions")
    assert isinstance(named, NamedQuestions)
    assert named.layout.read(tmp_path, named.name).left_out == {"record not in the folder": 1}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "colour"}, "the kind 'colour', which is none of number, date"),
        ({"answer": "in May"}, "the answer 'in May', which is no answer of the kind 'date'"),
        ({"kind": "number", "answer": "six"}, "no answer of the kind 'number'"),
        ({"kind": "yes or no", "answer": "Maybe"}, "no answer of the kind 'yes or no'"),
        ({"kind": "list", "answer": ["a; b"]}, "a semicolon in an entry"),
        ({"record": "../a.json"}, "should be a file's name"),
        ({"answer": None}, "the answer None"),
    ],
)
def test_wrong_entries_are_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    (tmp_path / "a.json").write_text("{}")
    write_questions(tmp_path, ENTRY | changed)
    with pytest.raises(TaskError, match=said):
        questions_in(tmp_path)


def test_a_field_that_lacks_and_a_record_that_lacks(tmp_path: Path) -> None:
    write_questions(tmp_path, {"record": "a.json"})
    with pytest.raises(TaskError, match="the field 'kind'"):
        questions_in(tmp_path)
    write_questions(tmp_path, ENTRY)
    with pytest.raises(TaskError, match="no record that the questions of 'fhir-questions' name"):
        questions_in(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    write_questions(tmp_path, {**ENTRY, "id": "x"}, {**ENTRY, "id": "x"})
    with pytest.raises(TaskError, match="two questions have the name 'x'"):
        questions_in(tmp_path)


def test_made_questions_are_true_of_the_record_as_medge_reads_it(shared: Path, tmp_path: Path) -> None:
    """The script reads resources by itself; what it says must also stand in the lines that a model is shown."""
    (tmp_path / "fhir").symlink_to(shared / "fhir")
    script = load_script(Path(__file__).parents[3] / "benchmarks" / "record_questions.py")
    written = script.write_questions(tmp_path).read_text()
    assert script.write_questions(tmp_path).read_text() == written  # the same records give the same questions
    found = questions_in(tmp_path)
    assert len({one.group for one in found}) == 3
    assert {one.kind for one in found} == {"number", "date", "yes or no", "list"}
    assert {one.answer for one in found if one.kind == "yes or no"} == {"yes", "no"}
    assert all(score_of(one.answer, one.answer, one.kind) == (1, 1.0) for one in found)
    lines = {one.record: [line.text for line in read_record(one.record).lines] for one in found}
    for one in found:
        if one.text.startswith("What was the last value of "):
            name = one.text.removeprefix("What was the last value of ").removesuffix("?")
            last = [line for line in lines[one.record] if f"Observation {name}: " in line][-1]
            assert score_of(last.split(f"{name}: ")[1], one.answer, "number")[0] == 1, (last, one)
        if one.text.startswith("Does the record have the condition "):
            name = one.text.removeprefix("Does the record have the condition ").removesuffix("?")
            there = any(f"Condition {name}" in line for line in lines[one.record])
            assert there == (one.answer == "yes")
        if one.text == "Which vaccines were given to the patient?":
            shown = [line.split("Immunization ")[1] for line in lines[one.record] if "Immunization " in line]
            assert score_of("; ".join(shown), one.answer, "list") == (1, 1.0)
