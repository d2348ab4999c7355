"""Make questions with their answers from patients' records, for `medge evaluate --task fhir-questions`.

    python benchmarks/record_questions.py DATA

DATA holds FHIR R4 bundles of one patient each, as Synthea writes them, in itself, in `fhir` or in `output/fhir`; the script
writes DATA/questions.jsonl. No model takes part: answers are read from the resources. Nothing is imported from medge, so that a
mistake of the reader that models are shown records by can't make its own answer right. The same records give the same questions.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Resource = dict[str, Any]
MOST = 6  # questions of a kind about one record, so that a long record does not outweigh the others


def resources_of(path: Path) -> dict[str, list[Resource]]:
    """{type: resources} of a bundle, without those that were entered in error."""
    found: dict[str, list[Resource]] = defaultdict(list)
    for entry in json.loads(path.read_text(encoding="utf-8-sig"))["entry"]:
        resource = entry["resource"]
        states = [resource.get("status"), *codes_of(resource.get("verificationStatus"))]
        if "entered-in-error" not in states:
            found[resource["resourceType"]].append(resource)
    return found


def codes_of(concept: Resource | None) -> list[str]:
    """The codes of a CodeableConcept."""
    return [coding["code"] for coding in (concept or {}).get("coding", ())]


def name_of(concept: Resource) -> str:
    """What a CodeableConcept says."""
    return str(concept.get("text") or concept["coding"][0]["display"])


def spread(names: list[str]) -> list[str]:
    """So many of the names as a kind of question has, evenly over their order."""
    ordered = sorted(names)
    return ordered if len(ordered) <= MOST else [ordered[place * len(ordered) // MOST] for place in range(MOST)]


def about_person(record: dict[str, list[Resource]]) -> Iterator[tuple[str, str, Any]]:
    patient = record["Patient"][0]
    yield "When was the patient born?", "date", patient["birthDate"]
    yield "Is the patient female?", "yes or no", "yes" if patient["gender"] == "female" else "no"
    yield "How many encounters does the record have?", "number", len(record["Encounter"])


def about_values(record: dict[str, list[Resource]]) -> Iterator[tuple[str, str, Any]]:
    """The last value of observations of which one is the last."""
    dated: dict[str, list[tuple[str, Resource]]] = defaultdict(list)
    for one in record["Observation"]:
        if "valueQuantity" in one:
            dated[name_of(one["code"])].append((one["effectiveDateTime"], one["valueQuantity"]))
    last = {name: max(date for date, _ in values) for name, values in dated.items()}
    alone = [name for name, values in dated.items() if sum(date == last[name] for date, _ in values) == 1]
    for name in spread(alone):
        quantity = next(value for date, value in dated[name] if date == last[name])
        yield f"What was the last value of {name}?", "number", f"{quantity['value']:.6g} {quantity['unit']}"
        yield f"On which date was {name} last measured?", "date", last[name][:10]


def about_vaccines(record: dict[str, list[Resource]]) -> Iterator[tuple[str, str, Any]]:
    dates: dict[str, str] = {}
    for one in record["Immunization"]:
        name = name_of(one["vaccineCode"])
        dates[name] = max(dates.get(name, ""), one["occurrenceDateTime"][:10])
    for name in spread(list(dates)):
        yield f"On which date was the vaccine {name} last given?", "date", dates[name]
    yield "Which vaccines were given to the patient?", "list", sorted(dates)


def about_medicines(record: dict[str, list[Resource]]) -> Iterator[tuple[str, str, Any]]:
    orders = [one for one in record["MedicationRequest"] if "medicationCodeableConcept" in one]
    named = [(name_of(one["medicationCodeableConcept"]), one["status"]) for one in orders]
    yield "Which medicines were ever prescribed to the patient?", "list", sorted({name for name, _ in named})
    active = sorted({name for name, status in named if status == "active"})
    yield "Which of the patient's prescriptions are active?", "list", active


def about_conditions(record: dict[str, list[Resource]], elsewhere: set[str]) -> Iterator[tuple[str, str, Any]]:
    """Conditions that the record has, and as many that only other records have."""
    states: dict[str, list[str]] = defaultdict(list)
    for one in record["Condition"]:
        states[name_of(one["code"])] += codes_of(one.get("clinicalStatus"))
    own = spread(list(states))
    for name in (*own, *spread(list(elsewhere - set(states)))[: max(1, len(own))]):
        yield f"Does the record have the condition {name}?", "yes or no", "yes" if name in states else "no"
    active = sorted(name for name, found in states.items() if "active" in found)
    yield "Which of the patient's conditions are active?", "list", active


def questions_of(paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Questions over all records, in their order."""
    records = {path: resources_of(path) for path in paths}
    conditions = {name_of(one["code"]) for record in records.values() for one in record["Condition"]}
    for path, record in records.items():
        asked = (
            *about_person(record), *about_values(record), *about_vaccines(record), *about_medicines(record),
            *about_conditions(record, conditions),
        )  # fmt: skip
        for number, (question, kind, answer) in enumerate(asked, 1):
            key = f"{path.stem}-{number:02}"
            yield {"id": key, "record": path.name, "question": question, "kind": kind, "answer": answer}


def write_questions(folder: Path) -> Path:
    """Write the questions over a folder's records into it.

    Returns:
        the file.
    """
    places = (folder, folder / "fhir", folder / "output" / "fhir")
    paths = next((found for place in places if (found := sorted(place.glob("*.json")))), [])
    # Synthea also writes bundles of hospitals and practitioners, which are of no patient.
    patients = [path for path in paths if not path.name.startswith(("hospitalInformation", "practitionerInformation"))]
    if not patients:
        raise SystemExit(f"{folder}: there are no records (*.json, or fhir/*.json, or output/fhir/*.json)")
    lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in questions_of(patients)]
    file = folder / "questions.jsonl"
    file.write_text("".join(lines), encoding="utf-8")
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of the records")
    file = write_questions(parser.parse_args().data)
    print(f"{file}: {len(file.read_text(encoding='utf-8').splitlines())} questions")


if __name__ == "__main__":
    main()
