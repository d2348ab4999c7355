"""Questions over a patient's record (FHIR R4): lines made of resources, those that fit chosen, and sources cited.

Every resource becomes one line of text. The lines that share words with the question come first (BM25; Robertson and
Zaragoza 2009), then what anyone should know of a patient: active problems, current medicines, allergies, and what is
recent; as many as the context holds. The model answers in JSON and can only cite lines that it was shown.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RecordError
from ..generator.conversation import RoomyChat, Sampling, user

# Bookkeeping: says nothing of the patient that another resource does not say.
LEFT_OUT = frozenset(
    {"Claim", "ExplanationOfBenefit", "Organization", "Practitioner", "Location", "Provenance", "Coverage"}
)
_ALWAYS = frozenset({"Patient", "AllergyIntolerance"})
_DATES = (
    "effectiveDateTime", "onsetDateTime", "authoredOn", "occurrenceDateTime", "performedDateTime", "recordedDate",
    "date", "issued", "started", "created", "birthDate",
)  # fmt: skip
_PERIODS = ("effectivePeriod", "performedPeriod", "period", "occurrencePeriod", "onsetPeriod")
_NAMES = ("code", "medicationCodeableConcept", "vaccineCode", "type", "description", "title")
_INACTIVE = frozenset({"stopped", "completed", "resolved", "inactive", "cancelled", "entered-in-error"})
K1, B = 1.2, 0.75
RECORD_SAMPLING = Sampling(limit=320)


@dataclass(frozen=True)
class Line:
    """One resource as text: "2019-01-02 Observation Haemoglobin: 13.2 g/dL"."""

    resource: str  # "Observation/<id>"
    kind: str
    date: str
    text: str
    active: bool


@dataclass(frozen=True)
class RecordAnswer:
    """An answer over a record.

    Attributes:
        text: the answer.
        sources: ids of the resources it rests on, as the model says.
        shown, of: how many lines the model saw, and how many the record has.
        complete: false where the token limit cut the answer off.
    """

    text: str
    sources: tuple[str, ...]
    shown: int
    of: int
    complete: bool


def read_record(source: str | Path | dict[str, Any]) -> list[Line]:
    """The lines of a FHIR R4 bundle: a path, or the parsed JSON.

    Raises:
        RecordError: not JSON, not a bundle, or nothing of a patient in it.
    """
    name = "the record"
    body: Any = source
    if not isinstance(source, dict):
        name = str(source)
        try:
            body = json.loads(Path(source).read_text(encoding="utf-8"))
        except OSError as error:
            raise RecordError(f"{name}: {error.strerror or error}") from error
        except ValueError as error:
            raise RecordError(f"{name}: not JSON ({error})") from error
    if not isinstance(body, dict) or body.get("resourceType") != "Bundle":
        kind = body.get("resourceType") if isinstance(body, dict) else type(body).__name__
        raise RecordError(f"{name}: not a FHIR bundle (resourceType {kind!r}); export the record as a Bundle")
    entries = body.get("entry", [])
    lines = []
    for entry in entries if isinstance(entries, list) else []:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if (
            isinstance(resource, dict)
            and isinstance(kind := resource.get("resourceType"), str)
            and kind not in LEFT_OUT
        ):
            lines.append(_line(resource, kind))
    if not lines:
        raise RecordError(f"{name}: the bundle holds no resource that says something of a patient")
    return sorted(lines, key=lambda line: line.date)


def _line(resource: dict[str, Any], kind: str) -> Line:
    date = _date(resource)
    status = _text(resource.get("clinicalStatus")) or str(resource.get("status") or "")
    parts = [part for part in _describe(resource, kind) if part]
    shown = f" ({status})" if status and status not in {"final", "finished", "completed"} else ""
    text = f"{date or 'undated'} {kind} {': '.join(parts)}{shown}"
    return Line(f"{kind}/{resource.get('id', '?')}", kind, date, " ".join(text.split()), status not in _INACTIVE)


def _describe(resource: dict[str, Any], kind: str) -> Iterator[str]:
    if kind == "Patient":
        # No name: the answer does not need it, and what is not in the prompt can't be repeated.
        yield f"{resource.get('gender', 'sex unknown')}, born {resource.get('birthDate', 'unknown')}"
        if died := resource.get("deceasedDateTime"):
            yield f"died {str(died)[:10]}"
        return
    yield next((text for key in _NAMES if (text := _text(resource.get(key)))), "")
    yield _value(resource)
    for component in resource.get("component", []) if isinstance(resource.get("component"), list) else []:
        yield f"{_text(component.get('code'))} {_value(component)}"
    for key in ("reasonCode", "interpretation", "conclusion", "note", "dosageInstruction", "activity", "bodySite"):
        yield _text(resource.get(key))


def _value(resource: dict[str, Any]) -> str:
    quantity = resource.get("valueQuantity")
    if isinstance(quantity, dict) and isinstance(value := quantity.get("value"), int | float):
        return f"{value:.4g} {quantity.get('unit', '')}".strip()
    for key in ("valueCodeableConcept", "valueString", "valueInteger", "valueBoolean", "valueDateTime"):
        if key in resource:
            return _text(resource[key])
    return ""


def _text(value: Any) -> str:
    """What a person would read of a CodeableConcept, Coding, Annotation, or a list of them."""
    if isinstance(value, list):
        return ", ".join(text for item in value[:4] if (text := _text(item)))
    if isinstance(value, dict):
        for key in ("text", "display", "coding", "detail", "code"):
            if key in value and (text := _text(value[key])):
                return text
        return ""
    return str(value) if isinstance(value, str | int | float) else ""


def _date(resource: dict[str, Any]) -> str:
    for key in _DATES:
        if isinstance(resource.get(key), str):
            return str(resource[key])[:10]
    for key in _PERIODS:
        if isinstance(period := resource.get(key), dict) and isinstance(start := period.get("start"), str):
            return start[:10]
    return ""


def rank(lines: Sequence[Line], question: str) -> list[Line]:
    """Lines in the order in which they deserve a place in the prompt."""
    documents = [_words(line.text) for line in lines]
    average = sum(map(len, documents)) / len(documents)
    frequency = Counter(word for words in documents for word in set(words))
    asked = set(_words(question))
    newest = {line.resource: place for place, line in enumerate(lines)}

    def score(pair: tuple[Line, list[str]]) -> tuple[bool, float, bool, int]:
        line, words = pair
        counts = Counter(words)
        relevance = 0.0
        for word in asked & counts.keys():
            rarity = math.log(1 + (len(lines) - frequency[word] + 0.5) / (frequency[word] + 0.5))
            relevance += rarity * counts[word] * (K1 + 1) / (counts[word] + K1 * (1 - B + B * len(words) / average))
        standing = line.kind in {"Condition", "MedicationRequest", "MedicationStatement"} and line.active
        return line.kind in _ALWAYS, relevance, standing, newest[line.resource]

    return [line for line, _ in sorted(zip(lines, documents, strict=True), key=score, reverse=True)]


def _words(text: str) -> list[str]:
    """Lower-case words without the endings that separate a question from a record ("medications", "medication")."""
    return [re.sub(r"(ies|es|s|ing|ed)$", "", word) for word in re.findall(r"[a-z0-9]{2,}", text.lower())]


def answer_from_record(
    chat: RoomyChat, source: str | Path | dict[str, Any], question: str, sampling: Sampling = RECORD_SAMPLING
) -> RecordAnswer:
    """Answer a question over a record; see the module's text for how.

    Raises:
        RecordError: not a FHIR record.
        ContextError: the question alone is too long for the context.
    """
    lines = read_record(source)
    room = chat.context - sampling.limit - 200 - chat.count_tokens(question)
    chosen: list[Line] = []
    for line in rank(lines, question):
        cost = chat.count_tokens(f"[R00] {line.text}\n")
        if cost <= room:
            chosen.append(line)
            room -= cost
    chosen.sort(key=lambda line: line.date)
    labels = {f"R{number}": line for number, line in enumerate(chosen, 1)}
    shown = "\n".join(f"[{label}] {line.text}" for label, line in labels.items())
    asked = (
        f"A patient's record, a line each:\n{shown}\n\nQuestion: {question}\n"
        "Answer from these lines alone, as JSON, and name the lines the answer rests on."
    )
    schema = {
        "type": "object", "required": ["answer", "sources"], "additionalProperties": False,
        "properties": {
            "answer": {"type": "string", "minLength": 1, "maxLength": 600},
            "sources": {"type": "array", "items": {"enum": list(labels)}, "maxItems": 6},
        },
    }  # fmt: skip
    reply = chat.chat([user(asked)], sampling, schema=schema)
    try:
        body = json.loads(reply.text)
    except ValueError:
        return RecordAnswer(reply.text, (), len(chosen), len(lines), complete=False)
    cited = tuple(dict.fromkeys(labels[label].resource for label in body["sources"]))
    return RecordAnswer(body["answer"], cited, len(chosen), len(lines), complete=True)
