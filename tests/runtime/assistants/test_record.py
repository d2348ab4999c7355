"""FHIR records: read, ranked, answered with sources; and what is no record."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from medge.runtime.assistants.fhir import read_record, show_number
from medge.runtime.assistants.health_record import RecordAnswer, answer_from_record, rank
from medge.runtime.errors import GeneratorError, RecordError
from medge.runtime.generator.conversation import Answer, Sampling, Stop, Turn


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
    lines = {line.resource: line for line in read_record(bundle(PATIENT, DRUG, PRESSURE, CLAIM)).lines}
    assert set(lines) == {"Patient/p", "MedicationRequest/m", "Observation/b"}
    assert lines["Patient/p"].text == "1950-02-03 Patient female, born 1950-02-03"  # and no name
    assert lines["MedicationRequest/m"].text == "2020-05-01 MedicationRequest Metformin 500 MG Oral Tablet (active)"
    assert "Systolic 141.234 mmHg: Diastolic 88 mmHg" in lines["Observation/b"].text


def test_what_fits_the_question_comes_first() -> None:
    lines = read_record(bundle(PATIENT, DRUG, OLD_DRUG, PRESSURE, ALLERGY)).lines
    by_question = [line.resource for line in rank(lines, "What was the last blood pressure?")]
    assert set(by_question[:2]) == {"Patient/p", "AllergyIntolerance/a"}
    assert by_question[2] == "Observation/b"
    assert by_question[3] == "MedicationRequest/m"  # active before stopped
    assert rank(lines, "Which tablets?")[2].resource == "MedicationRequest/m"


def test_real_records(shared: Path) -> None:
    paths = sorted((shared / "fhir").glob("*.json"))
    assert paths
    for path in paths:
        lines = read_record(path).lines
        assert len(lines) > 30
        assert len({line.resource for line in lines}) == len(lines)
        assert [line.date for line in lines] == sorted(line.date for line in lines)
        assert all(len(line.text.split()) > 3 and line.date for line in lines)  # each says something, and when


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{", "not JSON"), ("[1]", "int"), ('{"resourceType": "Claim"}', "no resource"), ('{"a": 1}', "None"),
        ('{"resourceType": "Patient"}\n{"resource', "line 2 is not JSON"),
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


def test_a_batch_of_searches_is_read() -> None:
    """Each of its entries is a Bundle, which says nothing by itself."""
    lab = {"resourceType": "Observation", "id": "ck", "code": {"text": "CK"}, "valueQuantity": {"value": 12345}}
    page = {"resourceType": "Bundle", "type": "searchset", "total": 3, "entry": [{"resource": lab}, 7]}
    person = {"resourceType": "Patient", "id": "p"}
    batch = {"resourceType": "Bundle", "type": "batch-response", "entry": [{"resource": page}, {"resource": person}]}
    record = read_record(batch)
    assert sorted(line.kind for line in record.lines) == ["Observation", "Patient"]
    assert (record.missing, record.unreadable) == (2, 1)


def test_odd_resources_make_no_fuss() -> None:
    odd = {"resourceType": "Observation", "id": 7, "code": [], "valueQuantity": {"value": "high"}, "component": "none"}
    [line] = read_record(bundle(odd)).lines
    assert line.resource == "Observation/7"
    assert line.date == ""


def line_of(resource: dict[str, Any], *others: dict[str, Any]) -> str:
    address = f"{resource['resourceType']}/{resource.get('id', '?')}"
    return next(line.text for line in read_record(bundle(resource, *others)).lines if line.resource == address)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12345, "12345"), (12345.0, "12345"), (1234567.0, "1234567"), (13.2, "13.2"), (0.000123456789, "0.000123457"),
        (63.94871276493217, "63.9487"), (98765.4321, "98765.4"), (1234567.89, "1234567.9"), (-3.5, "-3.5"), (0, "0"),
        (True, ""), ("7", ""), (float("nan"), ""), (float("inf"), ""),
    ],
)  # fmt: skip
def test_numbers_are_as_they_were_measured(value: Any, shown: str) -> None:
    assert show_number(value) == shown


def lab(**value: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": "l", "status": "final", "code": concept("CK"), **value}


def test_values_of_every_form() -> None:
    assert "CK: 12345 U/L" in line_of(lab(valueQuantity={"value": 12345, "unit": "U/L"}))
    assert "CK: < 0.01 ng/mL" in line_of(lab(valueQuantity={"value": 0.01, "comparator": "<", "unit": "ng/mL"}))
    assert "CK: 5 U/L to ?" in line_of(lab(valueRange={"low": {"value": 5, "unit": "U/L"}}))
    assert "CK: 1 / 128" in line_of(lab(valueRatio={"numerator": {"value": 1}, "denominator": {"value": 128}}))
    assert "CK: yes" in line_of(lab(valueBoolean=True))
    assert "no value (not performed)" in line_of(lab(dataAbsentReason=concept("not performed")))


def test_what_is_over_or_untrue_does_not_read_as_current() -> None:
    done = {**DRUG, "status": "completed"}
    assert line_of(done).endswith("(completed)")
    [line] = read_record(bundle(done)).lines
    assert not line.active
    wrong = {**ALLERGY, "verificationStatus": {"coding": [{"code": "entered-in-error"}]}}
    record = read_record(bundle(PATIENT, wrong, {**PRESSURE, "status": "entered-in-error"}))
    assert [line.kind for line in record.lines] == ["Patient"]
    assert record.note == "2 entries were entered in error and are left out"
    refuted = line_of({**ALLERGY, "verificationStatus": {"coding": [{"code": "refuted"}]}})
    assert "ruled out: Peanut" in refuted
    assert refuted.endswith("(refuted)")
    confirmed = {
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "verificationStatus": {"coding": [{"code": "confirmed"}]},
    }
    assert line_of({**ALLERGY, **confirmed}).endswith("(active)")
    assert "NOT to be given" in line_of({**DRUG, "doNotPerform": True})
    family = {"resourceType": "FamilyMemberHistory", "id": "f", "status": "completed", "relationship": concept("mother"),
              "condition": [{"code": concept("breast cancer")}]}  # fmt: skip
    assert line_of(family) == "undated FamilyMemberHistory mother of the patient: breast cancer"


def test_a_medicine_is_found_where_it_is_written() -> None:
    pointing = {key: value for key, value in DRUG.items() if key != "medicationCodeableConcept"}
    drug = {"resourceType": "Medication", "id": "x", "code": concept("Warfarin 5 MG")}
    inside = {**pointing, "medicationReference": {"reference": "#x"}, "contained": [drug]}
    assert "Warfarin 5 MG (active)" in line_of(inside)
    beside = {**pointing, "medicationReference": {"reference": "Medication/x"}}
    assert "Warfarin 5 MG (active)" in line_of(beside, drug)
    by_url = bundle({**pointing, "medicationReference": {"reference": "urn:uuid:7"}}, drug)
    by_url["entry"][1]["fullUrl"] = "urn:uuid:7"
    assert "Warfarin 5 MG" in read_record(by_url).lines[0].text
    assert "does not name" in line_of({**pointing, "medicationReference": {"reference": "Medication/gone"}})


def page(total: int, *resources: dict[str, Any], link: str = "self") -> dict[str, Any]:
    return {**bundle(*resources), "type": "searchset", "total": total, "link": [{"relation": link, "url": "x"}]}


def test_a_servers_answers_are_records(tmp_path: Path) -> None:
    outcome = {"resourceType": "OperationOutcome", "id": "w"}
    first, second = page(3, PATIENT, DRUG, outcome), page(3, PRESSURE, DRUG, link="previous")
    first["entry"][2]["search"] = {"mode": "outcome"}
    second["entry"][1]["search"] = {"mode": "include"}
    alone, both = read_record(first), read_record([first, second])
    assert alone.note == "1 entries of the search are on pages that were not given"
    assert both.note == ""
    assert [line.resource for line in both.lines] == ["Patient/p", "MedicationRequest/m", "Observation/b"]
    assert [line.resource for line in read_record(PATIENT).lines] == ["Patient/p"]
    lines = tmp_path / "export.ndjson"
    lines.write_text("\n".join(map(json.dumps, (PATIENT, DRUG))) + "\n")
    assert len(read_record(lines).lines) == 2
    with pytest.raises(RecordError, match="holds 2 patients"):
        read_record([lines, {**PATIENT, "id": "q"}])


class Scripted:
    """A generator for which a word is a token, which says what it is told to and keeps what it was asked."""

    def __init__(self, reply: str, context: int, stop: Stop = "end") -> None:
        self.context = context
        self.reply, self.stop = reply, stop

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def chat(self, turns: list[Turn], _: Sampling, *, schema: dict[str, Any]) -> Answer:
        [turn] = turns
        self.asked = str(turn.parts[0])
        self.labels = schema["properties"]["sources"]["items"]["enum"]
        return Answer(self.reply, "", self.stop, 1, 0, 1)


def answered(chat: Scripted, record: dict[str, Any], question: str) -> RecordAnswer:
    return answer_from_record(chat, record, question)  # type: ignore[arg-type]  # all of a chat that a record needs


RECORD = bundle(PATIENT, DRUG, OLD_DRUG, PRESSURE, ALLERGY)


def test_a_source_is_the_resource_whose_label_was_cited() -> None:
    generator = Scripted('{"answer": "141 over 88", "sources": ["R5", "R1", "R5"]}', context=2048)
    answer = answered(generator, RECORD, "What was the last blood pressure?")
    assert generator.labels == ["R1", "R2", "R3", "R4", "R5"]
    assert "[R1] 1950-02-03 Patient" in generator.asked  # by date
    assert "[R5] 2021-01-02 Observation" in generator.asked
    assert answer.sources == ("Observation/b", "Patient/p")  # as cited, each once
    assert (answer.text, answer.shown, answer.of, answer.complete) == ("141 over 88", 5, 5, True)


def test_what_does_not_fit_is_not_shown_and_can_not_be_cited() -> None:
    generator = Scripted('{"answer": "peanuts", "sources": []}', context=320 + 200 + 22)
    answer = answered(generator, RECORD, "Which allergy?")
    shown = [line for line in read_record(RECORD).lines if line.text in generator.asked]
    assert "AllergyIntolerance/a" in {line.resource for line in shown}
    assert len(generator.labels) == len(shown) == answer.shown < answer.of == 5


def test_how_to_answer_takes_no_part_in_the_choice_of_lines() -> None:
    shown = []
    for form in ("", "Say which tablets, as milligrams of metformin and amoxicillin."):
        generator = Scripted('{"answer": "peanuts", "sources": []}', context=320 + 200 + 36 + len(form.split()))
        answer_from_record(generator, RECORD, "Which blood pressure?", form=form)  # type: ignore[arg-type]  # all of a chat that a record needs
        assert form in generator.asked
        shown.append([line.resource for line in read_record(RECORD).lines if line.text in generator.asked])
    assert shown[0] == shown[1]
    assert 0 < len(shown[0]) < 5


def test_no_question_no_answer() -> None:
    with pytest.raises(GeneratorError, match="the question is empty"):
        answered(Scripted("{}", context=2048), RECORD, "  ")


def test_what_is_missing_is_said_with_the_answer() -> None:
    generator = Scripted('{"answer": "141 over 88", "sources": []}', context=2048)
    answer = answered(generator, page(9, PATIENT, PRESSURE), "Blood pressure?")
    assert "7 entries" in answer.note


@pytest.mark.parametrize(("stop", "where"), [("limit", "at the limit of tokens"), ("context", "the context was full")])
def test_an_answer_that_was_cut_off_cites_nothing(stop: Stop, where: str) -> None:
    generator = Scripted('{"answer": "141 ov', context=2048, stop=stop)
    answer = answered(generator, RECORD, "What was the last blood pressure?")
    assert (answer.text, answer.sources, answer.stop, answer.complete) == ('{"answer": "141 ov', (), stop, False)
    assert where in answer._repr_html_()


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
    lines = read_record(path).lines
    assert set(answer.sources) <= {line.resource for line in lines if f"] {line.text}\n" in asked[0]}
    assert len(re.findall(r"^\[R\d+\]", asked[0], re.MULTILINE)) == answer.shown
    assert 0 < answer.shown < answer.of == len(lines)  # this record is longer than the context
    assert answer.text
    generator.close()


def test_odd_values_of_a_record_reach_no_line() -> None:
    odd = {**PRESSURE, "effectiveDateTime": "../../etc", "code": {"text": "Blood\x1b[31m\npressure"}, "id": {"x": 1}}
    patient = {
        **PATIENT,
        "gender": [{"family": "Secret"}],
        "birthDate": "1950-02-03\x1b[31m",
        "deceasedDateTime": ["x"],
    }
    drug = {**DRUG, "status": {"coding": [{"code": "stopped"}]}}
    lines = {line.kind: line for line in read_record(bundle(patient, odd, drug)).lines}
    assert lines["Patient"].text == "1950-02-03 Patient sex unknown, born 1950-02-03"
    assert lines["Observation"].text.startswith("undated Observation Blood [31m pressure: ")
    assert lines["Observation"].resource == "Observation/?"
    assert not lines["MedicationRequest"].active
    assert show_number(10**400) == ""


def test_entries_that_are_no_resources_are_counted() -> None:
    body = bundle(PATIENT, DRUG)
    body["entry"] += [
        {"resource": {"id": "x"}},
        None,
        {"resource": {"resourceType": "\x1b[31m"}},
        {"request": {"method": "DELETE"}},
    ]
    record = read_record(body)
    assert (len(record.lines), record.unreadable) == (2, 3)
    assert record.note == "3 entries are no FHIR resources and are left out"
    with pytest.raises(RecordError, match="the entries of its Bundle are no list"):
        read_record({**body, "entry": {"0": body["entry"][0]}})


@pytest.mark.parametrize(
    "text", ["[" * 3000, '{"resourceType": "Patient", "id": "\\ud800"}', '{"resourceType": "Patient", "x": NaN}']
)
def test_json_that_python_alone_reads_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"record.json: not JSON \("):
        read_record(path)


def test_a_pipe_that_nobody_writes_to_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordError, match="is no regular file"):
        read_record(tmp_path / "pipe")
