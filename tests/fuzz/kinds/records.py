"""FHIR records: a small synthetic one with changed values, resources and bytes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from ..mutate import edit_json, json_edits, mangled
from ..verdict import Kind, WrongError

NAME = "Zebediah"  # of the patient; it is never shown
RECORD: dict[str, Any] = {
    "resourceType": "Bundle", "type": "searchset", "total": 9, "link": [{"relation": "self", "url": "x"}],
    "entry": [{"fullUrl": f"urn:uuid:{number}", "search": {"mode": "match"}, "resource": resource} for number,
    resource in enumerate([
        {"resourceType": "Patient", "id": "p", "gender": "male", "birthDate": "1950-02-03", "name": [{"family": NAME,
        "given": [NAME]}],
         "identifier": [{"value": NAME}], "deceasedDateTime": "2020-01-01"},
        {"resourceType": "Observation", "id": "o1", "status": "final", "code": {"coding": [{"system": "x", "code": "1",
        "display": "Haemoglobin"}], "text": "Hb"},
         "effectiveDateTime": "2019-01-02T10:00:00Z", "valueQuantity": {"value": 13.25, "unit": "g/dL", "comparator": "<"},
         "subject": {"reference": "Patient/p"}},
        {"resourceType": "Observation", "id": "o2", "status": "final", "code": {"text": "Blood pressure"},
        "effectivePeriod": {"start": "2019-01-03"},
         "component": [{"code": {"text": "systolic"}, "valueQuantity": {"value": 120, "unit": "mmHg"}},
         {"code": {"text": "diastolic"}, "valueInteger": 80}]},
        {"resourceType": "Observation", "id": "o3", "status": "entered-in-error", "code": {"text": "Sodium"},
        "valueString": "high"},
        {"resourceType": "Observation", "id": "o4", "code": {"text": "Titre"}, "valueRatio": {"numerator": {"value": 1},
        "denominator": {"value": 128}},
         "valueRange": {"low": {"value": 1e-9}, "high": {"value": 1e22}}, "dataAbsentReason": {"text": "unknown"}},
        {"resourceType": "Condition", "id": "c", "code": {"coding": [{"display": "Asthma"}]},
        "clinicalStatus": {"coding": [{"code": "active"}]},
         "verificationStatus": {"coding": [{"code": "confirmed"}]}, "onsetDateTime": "2001"},
        {"resourceType": "MedicationRequest", "id": "m", "status": "active",
        "medicationReference": {"reference": "Medication/d", "display": "aspirin"},
         "authoredOn": "2018-05-05", "dosageInstruction": [{"text": "once a day"}], "doNotPerform": False},
        {"resourceType": "Medication", "id": "d", "code": {"text": "Aspirin 100 mg"}},
        {"resourceType": "AllergyIntolerance", "id": "a", "code": {"text": "Penicillin"}, "criticality": "high",
        "reaction": [{"manifestation": [{"text": "rash"}]}]},
        {"resourceType": "FamilyMemberHistory", "id": "f", "relationship": {"text": "mother"},
        "condition": [{"code": {"text": "diabetes"}}]},
    ])],
}  # fmt: skip


class _Chat:
    """A model that cites the first lines it is shown, as the schema allows."""

    context, image_tokens = 2000, 0

    def count_tokens(self, text: str) -> int:
        return len(text.split()) + 1

    def make_room(self, tokens: int) -> int:
        return self.context

    def chat(self, turns: Any, sampling: Any = None, *, think: bool = False, schema: Any = None) -> Any:
        from medge.runtime.generator.conversation import Answer

        cited = schema["properties"]["sources"]["items"]["enum"][:3]
        text = json.dumps({"answer": "yes", "sources": cited})
        return Answer(text, "", "end", 1, 0, 1)

    def stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("questions over a record are answered whole")


def make(rng: random.Random, base: Path) -> bytes:
    chance = rng.random()
    if chance < 0.2:
        return mangled(rng, json.dumps(RECORD, indent=1).encode())
    if chance < 0.25:
        return rng.choice((b"", b"[]", b"{}", b"null", b"[" * 20_000, b'{"a":' * 5000, b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0",
            b"1e999", b"NaN", b'{"resourceType": "Bundle"}',
                           b'{"resourceType": "Patient", "id": "x"}\n' * 3, b'"x"', b"[[[]]]", b"9" * 5000))  # fmt: skip
    tree = edit_json(RECORD, json_edits(rng, RECORD))
    if chance < 0.4:  # a bulk export: a resource a line
        entries = tree.get("entry") if isinstance(tree, dict) else None
        lines = (
            [json.dumps(entry.get("resource")) for entry in entries if isinstance(entry, dict)]
            if isinstance(entries, list)
            else ["{"]
        )
        return "\n".join(lines).encode()
    return json.dumps(tree).encode()


def run(content: bytes, place: Path, base: Path) -> None:
    from medge.runtime.assistants.fhir import read_record
    from medge.runtime.assistants.health_record import answer_from_record

    path = place / "record.json"
    path.write_bytes(content)
    record = read_record(path)
    if not record.lines:
        raise WrongError("a record without a line")
    for line in record.lines:
        if NAME in line.text and line.kind == "Patient":
            raise WrongError(f"the patient's name is shown: {line.text[:100]!r}")
        if any(ord(letter) < 32 for letter in line.text) or not line.text.strip():
            raise WrongError(f"a line {line.text[:100]!r}")
        if len(line.text) > 200_000:
            raise WrongError(f"a line of {len(line.text)} characters")
        line.text.encode()
        (line.resource + line.date + line.kind).encode()
    if [line.date for line in record.lines] != sorted(line.date for line in record.lines):
        raise WrongError("lines are not in the order of their dates")
    answer = answer_from_record(_Chat(), path, "Which medicines?")
    if not set(answer.sources) <= {line.resource for line in record.lines} or answer.of != len(record.lines):
        raise WrongError(f"sources {answer.sources} of no line")
    str(record.note).encode()


KIND = Kind(make, run, modules=("medge.runtime.assistants.health_record",), batch=100)
