"""FHIR R4 resources as lines of text: what a person would read of each, with its date and its standing.

A record is a Bundle of any type (a search's pages, too), one resource, lines of resources (a bulk export), or several files
of these. https://hl7.org/fhir/R4/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import RecordError
from ..json_text import flattened, loads
from ..written_text import read_written

Resource = dict[str, Any]
Source = str | Path | Resource | Sequence[str | Path | Resource]

# Bookkeeping: says nothing of the patient that another resource does not say.
LEFT_OUT = frozenset({
    "Claim", "ExplanationOfBenefit", "Organization", "Practitioner", "PractitionerRole", "Location", "Provenance", "Coverage",
    "OperationOutcome", "Medication",
})  # fmt: skip
_DATES = (
    "effectiveDateTime", "onsetDateTime", "authoredOn", "occurrenceDateTime", "performedDateTime", "recordedDate",
    "date", "issued", "started", "created", "birthDate",
)  # fmt: skip
_PERIODS = ("effectivePeriod", "performedPeriod", "period", "occurrencePeriod", "onsetPeriod")
_NAMES = ("code", "medicationCodeableConcept", "vaccineCode", "type", "description", "title")
_DETAILS = (
    "reasonCode", "interpretation", "conclusion", "note", "dosageInstruction", "activity", "bodySite", "criticality",
)  # fmt: skip
_INACTIVE = frozenset(
    {"stopped", "completed", "resolved", "inactive", "cancelled", "remission", "not-taken", "refuted"}
)
# A status that says no more than that the entry is there.
_USUAL = {
    "Observation": "final", "DiagnosticReport": "final", "Encounter": "finished", "Procedure": "completed",
    "Immunization": "completed", "FamilyMemberHistory": "completed",
}  # fmt: skip
_WRONG = "entered-in-error"
_BATCHES = ("batch-response", "transaction-response")  # each entry can be the whole answer to a search
_TYPE = re.compile(r"[A-Za-z]{1,64}")
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?(?!\d)")
DIGITS = 6  # significant digits of a fraction; whole numbers are shown whole


@dataclass(frozen=True)
class Line:
    """One resource as text: "2019-01-02 Observation Haemoglobin: 13.2 g/dL"."""

    resource: str  # "Observation/<id>"
    kind: str
    date: str
    text: str
    active: bool


@dataclass(frozen=True)
class Record:
    """What is known of one patient.

    Attributes:
        lines: by date.
        withdrawn: how many entries are left out because they were entered in error.
        missing: how many entries a search found that are not here: other pages hold them.
        unreadable: how many entries are left out because they are no resources.
    """

    lines: tuple[Line, ...]
    withdrawn: int = 0
    missing: int = 0
    unreadable: int = 0

    @property
    def note(self) -> str:
        """One sentence on what is not in the lines; "" where nothing is known to be missing."""
        told = []
        if self.missing:
            told.append(f"{self.missing} entries of the search are on pages that were not given")
        if self.withdrawn:
            told.append(f"{self.withdrawn} entries were entered in error and are left out")
        if self.unreadable:
            told.append(f"{self.unreadable} entries are no FHIR resources and are left out")
        return "; ".join(told)


def read_record(source: Source) -> Record:
    """Read a patient's record.

    Args:
        source: a path, parsed JSON, or several of either, such as the pages of a search.

    Raises:
        RecordError: not JSON, not FHIR, nothing of a patient in it, or of more than one patient.
    """
    many = [source] if isinstance(source, str | Path | dict) else list(source)
    found: list[tuple[str, Resource]] = []  # (address in the bundle, resource)
    missing, unreadable, name = 0, 0, "the record"
    for one in many:
        bodies, name = _parse(one)
        for body in bodies:
            entries, absent, broken = _entries(body, name)
            found += entries
            missing += absent
            unreadable += broken
    by_address = {address: resource for address, resource in found if address}
    by_address |= {_address(resource): resource for _, resource in found}
    patients = {_address(r) for r in by_address.values() if r["resourceType"] == "Patient"}
    if len(patients) > 1:
        raise RecordError(f"{name}: holds {len(patients)} patients; give the record of one")
    # Pages overlap: the same entry is one line.
    resources = list({(_address(r) if r.get("id") else id(r)): r for _, r in found}.values())
    shown = [r for r in resources if r["resourceType"] not in LEFT_OUT]
    valid = [r for r in shown if not _withdrawn(r)]
    lines = [_line(resource, by_address) for resource in valid]
    if not lines:
        raise RecordError(f"{name}: holds no resource that says something of a patient")
    lines.sort(key=lambda line: line.date)
    # Of several pages, each states the search's total: what is absent from all of them together counts.
    return Record(tuple(lines), len(shown) - len(valid), max(0, missing), unreadable)


def _parse(source: str | Path | Resource) -> tuple[list[Any], str]:
    """The JSON values in a source, and what to call it."""
    if isinstance(source, dict):
        return [source], "the record"
    name = str(source)
    text = read_written(Path(source), RecordError)
    try:
        body = loads(text)
        return (body if isinstance(body, list) else [body]), name
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2 or not all(line.lstrip().startswith("{") for line in lines[:2]):
            raise RecordError(f"{name}: not JSON ({error})") from error
    bodies = []
    for number, line in enumerate(lines, 1):
        try:
            bodies.append(loads(line))
        except ValueError as error:
            raise RecordError(f"{name}: line {number} is not JSON ({error})") from error
    return bodies, name


def _entries(body: Any, name: str) -> tuple[list[tuple[str, Resource]], int, int]:
    """(address, resource) of what a JSON value holds, how many matches of a search it does not hold, and how many of its
    entries are no resources."""
    if not _is_resource(body):
        what = (
            f"resourceType {flattened(repr(body.get('resourceType')), 60)}"
            if isinstance(body, dict)
            else type(body).__name__
        )
        raise RecordError(f"{name}: not FHIR ({what}); give a Bundle, or resources")
    if body["resourceType"] != "Bundle":
        return [("", body)], 0, 0
    found: list[tuple[str, Resource]] = []
    matches = missing = broken = 0
    entries = body.get("entry", [])
    if not isinstance(entries, list):
        raise RecordError(f"{name}: not FHIR (the entries of its Bundle are no list)")
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if _is_resource(resource) and resource["resourceType"] == "Bundle" and body.get("type") in _BATCHES:
            within, absent, odd = _entries(resource, name)
            found += within
            missing += absent
            broken += odd
        elif _is_resource(resource):
            search = entry.get("search")
            matches += not (isinstance(search, dict) and search.get("mode") in ("include", "outcome"))
            found.append((_text(entry.get("fullUrl")), resource))
        else:  # what a request deletes has no resource
            broken += not isinstance(entry, dict) or "resource" in entry
    total = body.get("total")
    first = not any(
        isinstance(link, dict) and link.get("relation") in ("previous", "prev") for link in _list(body.get("link"))
    )
    # The first page counts the whole search, the others take off what they hold.
    whole = (
        total
        if isinstance(total, int) and not isinstance(total, bool) and first and body.get("type") == "searchset"
        else 0
    )
    return found, missing + (whole - matches if body.get("type") == "searchset" else 0), broken


def _is_resource(value: Any) -> TypeGuard[Resource]:
    kind = value.get("resourceType") if isinstance(value, dict) else None
    return isinstance(kind, str) and _TYPE.fullmatch(kind) is not None


def _withdrawn(resource: Resource) -> bool:
    return _WRONG in (_code(resource.get("status")), _code(resource.get("verificationStatus")))


def _line(resource: Resource, others: dict[str, Resource]) -> Line:
    kind, date = resource["resourceType"], _date(resource)
    standing = [
        word for key in ("clinicalStatus", "verificationStatus", "status")
        if (word := _code(resource.get(key))) and word != "confirmed" and word != _USUAL.get(kind)
    ]  # fmt: skip
    parts = [part for part in _describe(resource, kind, others) if part]
    if resource.get("doNotPerform") is True:
        parts.insert(0, "NOT to be given or done")
    if "refuted" in standing:
        parts.insert(0, "ruled out")
    shown = f" ({', '.join(standing)})" if standing else ""
    text = f"{date or 'undated'} {kind} {': '.join(parts)}{shown}"
    active = not _INACTIVE & set(standing) and _code(resource.get("status")) not in _INACTIVE
    return Line(_address(resource), kind, date, flattened(text), active)


def _describe(resource: Resource, kind: str, others: dict[str, Resource]) -> Iterator[str]:
    if kind == "Patient":
        # No name: the answer does not need it, and what is not in the prompt can't be repeated.
        yield f"{_code(resource.get('gender')) or 'sex unknown'}, born {_day(resource.get('birthDate')) or 'unknown'}"
        if died := _day(resource.get("deceasedDateTime")):
            yield f"died {died}"
        elif resource.get("deceasedBoolean") is True:
            yield "died"
        return
    if kind == "FamilyMemberHistory":  # of a relative, not of the patient
        yield f"{_text(resource.get('relationship')) or 'a relative'} of the patient"
        yield ", ".join(_text(c.get("code")) for c in _list(resource.get("condition")) if isinstance(c, dict))
        return
    yield next((text for key in _NAMES if (text := _text(resource.get(key)))), "") or _medication(resource, others)
    yield _value(resource)
    for component in _list(resource.get("component")):
        if isinstance(component, dict):
            yield f"{_text(component.get('code'))} {_value(component)}"
    for reaction in _list(resource.get("reaction")):
        if isinstance(reaction, dict):
            yield _text(reaction.get("manifestation"))
    for key in _DETAILS:
        yield _text(resource.get(key))


def _medication(resource: Resource, others: dict[str, Resource]) -> str:
    """The name of the medicine that a resource points to, inside itself or beside it."""
    pointer = resource.get("medicationReference")
    if not isinstance(pointer, dict):
        return ""
    address = str(pointer.get("reference") or "")
    contained = {f"#{c.get('id')}": c for c in _list(resource.get("contained")) if isinstance(c, dict)}
    found = contained.get(address) or others.get(address) or {}
    return _text(found.get("code")) or _text(pointer.get("display")) or "a medicine that the record does not name"


def _value(resource: Resource) -> str:
    if text := _quantity(resource.get("valueQuantity")):
        return text
    if isinstance(found := resource.get("valueRange"), dict):
        return f"{_quantity(found.get('low')) or '?'} to {_quantity(found.get('high')) or '?'}"
    if isinstance(found := resource.get("valueRatio"), dict):
        return f"{_quantity(found.get('numerator')) or '?'} / {_quantity(found.get('denominator')) or '?'}"
    for key in ("valueCodeableConcept", "valueString", "valueInteger", "valueBoolean", "valueDateTime"):
        if key in resource:
            return _text(resource[key])
    absent = _text(resource.get("dataAbsentReason"))
    return f"no value ({absent})" if absent else ""


def _quantity(quantity: Any) -> str:
    """ "< 0.01 ng/mL" of a Quantity."""
    if not isinstance(quantity, dict) or not (number := show_number(quantity.get("value"))):
        return ""
    return f"{_code(quantity.get('comparator'))} {number} {_text(quantity.get('unit')) or _text(quantity.get('code'))}".strip()


def show_number(value: Any) -> str:
    """A number as a person writes it: whole ones whole, others to `DIGITS` significant digits; "" of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:  # nor what is no number
        return ""
    if value == int(value):
        return str(int(value))
    places = max(0, DIGITS - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}".rstrip("0").rstrip(".") if places else f"{value:.1f}"


def _text(value: Any) -> str:
    """What a person would read of a CodeableConcept, Coding, Annotation, or a list of them."""
    if isinstance(value, list):
        return ", ".join(text for item in value[:4] if (text := _text(item)))
    if isinstance(value, dict):
        for key in ("text", "display", "coding", "detail", "code"):
            if key in value and (text := _text(value[key])):
                return text
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else show_number(value)


def _code(value: Any) -> str:
    """The code of a status: a plain string, or a CodeableConcept's."""
    if isinstance(value, dict):
        codes = [coding.get("code") for coding in _list(value.get("coding")) if isinstance(coding, dict)]
        return next((code for code in codes if isinstance(code, str)), "") or _text(value).lower()
    return value if isinstance(value, str) else ""


def _date(resource: Resource) -> str:
    for key in _DATES:
        if day := _day(resource.get(key)):
            return day
    for key in _PERIODS:
        if isinstance(period := resource.get(key), dict) and (start := _day(period.get("start"))):
            return start
    return ""


def _day(value: Any) -> str:
    """The date of a FHIR dateTime, as exact as it is; "" of anything else."""
    found = _DATE.match(value) if isinstance(value, str) else None
    return found[0] if found else ""


def _address(resource: Resource) -> str:
    return f"{resource['resourceType']}/{flattened(_text(resource.get('id')), 64) or '?'}"


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else []
