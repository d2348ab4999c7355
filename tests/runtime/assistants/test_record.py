"""FHIR records: read, ranked, answered with sources; and what is no record."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medge.runtime.assistants.health_record import answer_from_record, rank, read_record
from medge.runtime.errors import RecordError
from medge.runtime.generator.generator import Answer, Turn


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": item} for item in resources]}


def concept(text: str) -> dict[str, Any]:
    return {"coding": [{"display": f"{text} (coded)"}], "text": text}


PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "name": [{"family": "Secret"}],
    "gender": "female",
    "birthDate": "1950-02-03",
}
DRUG = {"resourceType": "MedicationRequest", "id": "m", "status": "active", "authoredOn": "2020-05-01T10:00:00Z",
        "medicationCodeableConcept": concept("Metformin 500 MG Oral Tablet")}  # fmt: skip
OLD_DRUG = {**DRUG, "id": "o", "status": "stopped", "medicationCodeableConcept": concept("Amoxicillin 250 MG")}
PRESSURE = {"resourceType": "Observation", "id": "b", "status": "final", "effectiveDateTime": "2021-01-02",
            "code": concept("Blood Pressure"), "component": [
                {"code": concept("Systolic"), "valueQuantity": {"value": 141.234, "unit": "mmHg"}},
                {"code": concept("Diastolic"), "valueQuantity": {"value": 88, "unit": "mmHg"}}]}  # fmt: skip
ALLERGY = {"resourceType": "AllergyIntolerance", "id": "a", "recordedDate": "1999-01-01", "code": concept("Peanut")}
CLAIM = {"resourceType": "Claim", "id": "c", "created": "2021-01-03"}


def test_lines_say_what_a_person_would_read() -> None:
    lines = {line.resource: line for line in read_record(bundle(PATIENT, DRUG, PRESSURE, CLAIM))}
    assert set(lines) == {"Patient/p", "MedicationRequest/m", "Observation/b"}
    assert lines["Patient/p"].text == "1950-02-03 Patient female, born 1950-02-03"  # and no name
    assert lines["MedicationRequest/m"].text == "2020-05-01 MedicationRequest Metformin 500 MG Oral Tablet (active)"
    assert "Systolic 141.2 mmHg: Diastolic 88 mmHg" in lines["Observation/b"].text


def test_what_fits_the_question_comes_first() -> None:
    lines = read_record(bundle(PATIENT, DRUG, OLD_DRUG, PRESSURE, ALLERGY))
    by_question = [line.resource for line in rank(lines, "What was the last blood pressure?")]
    assert set(by_question[:2]) == {"Patient/p", "AllergyIntolerance/a"}
    assert by_question[2] == "Observation/b"
    assert by_question[3] == "MedicationRequest/m"  # active before stopped
    assert rank(lines, "Which tablets?")[2].resource == "MedicationRequest/m"


def test_real_records(shared: Path) -> None:
    paths = sorted((shared / "fhir").glob("*.json"))
    assert paths
    for path in paths:
        lines = read_record(path)
        assert len(lines) > 30
        assert len({line.resource for line in lines}) == len(lines)
        assert [line.date for line in lines] == sorted(line.date for line in lines)
        assert all(len(line.text.split()) > 3 and line.date for line in lines)  # each says something, and when


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{", "not JSON"), ("[1]", "list"), ('{"resourceType": "Patient"}', "'Patient'"), ('{"a": 1}', "None"),
        ('{"resourceType": "Bundle"}', "no resource"), ('{"resourceType": "Bundle", "entry": [1, {}]}', "no resource"),
    ],
)  # fmt: skip
def test_what_is_no_record(tmp_path: Path, body: str, reason: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(body)
    with pytest.raises(RecordError, match=reason):
        read_record(path)
    with pytest.raises(RecordError, match="No such file"):
        read_record(tmp_path / "nowhere.json")


def test_odd_resources_make_no_fuss() -> None:
    odd = {"resourceType": "Observation", "id": 7, "code": [], "valueQuantity": {"value": "high"}, "component": "none"}
    [line] = read_record(bundle(odd))
    assert line.resource == "Observation/7"
    assert line.date == ""


class Scripted:
    """A generator for which a word is a token, which says what it is told to and keeps what it was asked."""

    def __init__(self, reply: str, context: int) -> None:
        self.engine = SimpleNamespace(context=context, tokenize=str.split)
        self.reply = reply

    def chat(self, turns: list[Turn], *, schema: dict[str, Any], **_: Any) -> Answer:
        [turn] = turns
        self.asked = str(turn.parts[0])
        self.labels = schema["properties"]["sources"]["items"]["enum"]
        return Answer(self.reply, "", "end", 1, 0, 1)


RECORD = bundle(PATIENT, DRUG, OLD_DRUG, PRESSURE, ALLERGY)


def test_a_source_is_the_resource_whose_label_was_cited() -> None:
    generator = Scripted('{"answer": "141 over 88", "sources": ["R5", "R1", "R5"]}', context=2048)
    answer = answer_from_record(generator, RECORD, "What was the last blood pressure?")  # type: ignore[arg-type]
    assert generator.labels == ["R1", "R2", "R3", "R4", "R5"]
    assert "[R1] 1950-02-03 Patient" in generator.asked  # by date
    assert "[R5] 2021-01-02 Observation" in generator.asked
    assert answer.sources == ("Observation/b", "Patient/p")  # as cited, each once
    assert (answer.text, answer.shown, answer.of, answer.complete) == ("141 over 88", 5, 5, True)


def test_what_does_not_fit_is_not_shown_and_can_not_be_cited() -> None:
    generator = Scripted('{"answer": "peanuts", "sources": []}', context=320 + 200 + 20)
    answer = answer_from_record(generator, RECORD, "Which allergy?")  # type: ignore[arg-type]
    shown = [line for line in read_record(RECORD) if line.text in generator.asked]
    assert "AllergyIntolerance/a" in {line.resource for line in shown}
    assert len(generator.labels) == len(shown) == answer.shown < answer.of == 5


def test_an_answer_that_was_cut_off_cites_nothing() -> None:
    generator = Scripted('{"answer": "141 ov', context=2048)
    answer = answer_from_record(generator, RECORD, "What was the last blood pressure?")  # type: ignore[arg-type]
    assert (answer.text, answer.sources, answer.complete) == ('{"answer": "141 ov', (), False)


def test_answers_cite_what_was_shown(reader: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import medge

    generator = medge.load_generator(reader, context=2048)
    path = sorted((shared / "fhir").glob("*.json"))[0]
    asked: list[str] = []
    chat = generator.chat
    monkeypatch.setattr(
        generator, "chat", lambda turns, *rest, **o: asked.append(turns[0].parts[0]) or chat(turns, *rest, **o)
    )
    answer = medge.answer_from_record(generator, path, "Which medicines does the patient take?")
    lines = read_record(path)
    assert set(answer.sources) <= {line.resource for line in lines if f"] {line.text}\n" in asked[0]}
    assert len(re.findall(r"^\[R\d+\]", asked[0], re.MULTILINE)) == answer.shown
    assert 0 < answer.shown < answer.of == len(lines)  # this record is longer than the context
    assert answer.text
    generator.close()
