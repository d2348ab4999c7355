"""The report for a record system: FHIR R4's DiagnosticReport, Observations and Provenance in a transaction."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from ...bundles.atomic import replace_text
from ...errors import PeerError
from .codes import CERTAINTY, DECISIONS, Code, code_of
from .facts import IMPRESSION, Facts, Finding
from .marks import MAKER, NOT_A_DEVICE, remarks

_TIMES = httpx.Timeout(60.0, connect=10.0)
_TERMS = "http://terminology.hl7.org/CodeSystem"
_UCUM = "http://unitsofmeasure.org"
_UID = "urn:dicom:uid"
Resource = dict[str, Any]


def fhir_bundle(facts: Facts, document: bytes | None = None, sr: str = "") -> Resource:
    """A transaction; the same facts give the same resources under the same ids.

    A later version of a study's report replaces the earlier one under its id. Who the patient is, is said by the clinic's number,
    not by a Patient of the server.

    Args:
        facts: what is said.
        document: the report as a PDF, which is attached.
        sr: the UID of the structured report that says the same; "" where there is none.
    """
    device = _device(facts)
    observations = [_observation(facts, one, device) for one in facts.findings]
    report = _report(facts, observations, document, sr)
    resources = [device, *observations, report, _provenance(facts, report, observations, device)]
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": _url(one),
                "resource": one,
                "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"},
            }
            for one in resources
        ],
    }


def name_of(bundle: Resource) -> str:
    """The id of the report in a transaction."""
    return next(
        one["resource"]["id"] for one in bundle["entry"] if one["resource"]["resourceType"] == "DiagnosticReport"
    )


def to_folder(bundle: Resource, folder: Path) -> Path:
    """Write a transaction as a file that is named by the report's id; an earlier one of the same study is replaced.

    Raises:
        StorageError: the file system refused.
    """
    place = folder / f"{name_of(bundle)}.json"
    replace_text(place, json.dumps(bundle, ensure_ascii=False, indent=1) + "\n")
    return place


def to_server(bundle: Resource, root: str, token: str | None = None) -> None:
    """Post a transaction to a FHIR server.

    Args:
        bundle: the transaction.
        root: the server's address, such as "http://10.0.0.3:8080/fhir".
        token: sent as bearer token.

    Raises:
        PeerError: it can't be reached, or refused.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)
    headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        answer = httpx.post(root, content=json.dumps(bundle), headers=headers, timeout=_TIMES, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PeerError(
            f"the FHIR server does not answer ({type(error).__name__}); is it running at that address?"
        ) from error
    if not answer.is_success:
        raise PeerError(f"the FHIR server refused the report (HTTP status {answer.status_code})")


def _report(facts: Facts, observations: list[Resource], document: bytes | None, sr: str) -> Resource:
    report, study = facts.report, facts.study
    made = _resource("DiagnosticReport", "report", study.uid)
    if sr:
        made["identifier"] = [_uid(sr)]
    if not report.signed:
        made["status"] = "preliminary"
    else:
        made["status"] = "amended" if facts.amends else "final"
    made["category"] = [{"coding": [{"system": f"{_TERMS}/v2-0074", "code": "RAD", "display": "Radiology"}]}]
    made["code"] = {
        "coding": [{"system": "http://loinc.org", "code": "18748-4", "display": "Diagnostic imaging study"}]
    }
    made |= {"language": report.language, "subject": _subject(facts), "issued": _instant(facts)}
    if day := _day(study.date):
        made["effectiveDateTime"] = day
    if report.signed:
        made["performer"] = made["resultsInterpreter"] = [{"display": report.signed_by}]
    if observations:
        made["result"] = [_reference(one) for one in observations]
    made["imagingStudy"] = [_study(facts)]
    said = [text for heading, text in report.sections() if heading.casefold() in IMPRESSION]
    if conclusion := "\n\n".join(said) or report.text.strip():
        made["conclusion"] = conclusion
    forms = [
        {"contentType": "text/plain; charset=utf-8", "data": _base64(f"{report.text}\n\n{remarks(facts)}".encode())}
    ]
    if document is not None:
        forms.append({"contentType": "application/pdf", "data": _base64(document)})
    made["presentedForm"] = [{**one, "language": report.language} for one in forms]
    return made


def _observation(facts: Facts, one: Finding, device: Resource) -> Resource:
    """One label in one image."""
    made = _resource("Observation", "observation", facts.study.uid, one.instance, str(one.frame), one.label)
    made["status"] = "final" if facts.report.signed else "preliminary"
    made["category"] = [
        {"coding": [{"system": f"{_TERMS}/observation-category", "code": "imaging", "display": "Imaging"}]}
    ]
    made["code"] = {"coding": [_coding(code_of(one.label))], "text": one.label or "unnamed"}
    made |= {"subject": _subject(facts), "issued": _instant(facts), "derivedFrom": [_study(facts)]}
    made["device"] = _reference(device)
    certainty = None
    if one.probability is not None:
        value = round(100 * one.probability, 2)
        certainty = {"valueQuantity": {"value": value, "unit": "%", "system": _UCUM, "code": "%"}}
    if one.says:
        decision = DECISIONS[one.says]
        made["valueCodeableConcept"] = {"coding": [_coding(decision)], "text": decision.meaning}
    if certainty is not None:
        made["component"] = [{"code": {"coding": [_coding(CERTAINTY)]}, **certainty}]
    if not one.says and certainty is None:
        made["dataAbsentReason"] = {"coding": [{"system": f"{_TERMS}/data-absent-reason", "code": "unknown"}]}
    made["note"] = [{"text": f"{NOT_A_DEVICE} Image {one.instance}, frame {one.frame + 1}."}]
    return made


def _device(facts: Facts) -> Resource:
    machine = facts.machine
    made = _resource("Device", "device", machine.version, machine.bundle, machine.sha256)
    made["identifier"] = [{"system": "urn:medge:bundle:sha256", "value": machine.sha256 or "none"}]
    made |= {"status": "active", "manufacturer": MAKER, "version": [{"value": machine.version}]}
    made["deviceName"] = [{"name": "medge station", "type": "user-friendly-name"}]
    if machine.bundle:
        made["deviceName"].append({"name": machine.bundle, "type": "model-name"})
        facts_of = {"recipe": machine.recipe, "parity": machine.parity}
        made["property"] = [
            {"type": {"text": name}, "valueCode": [{"text": value}]} for name, value in facts_of.items() if value
        ]
    made["note"] = [{"text": NOT_A_DEVICE}]
    return made


def _provenance(facts: Facts, report: Resource, observations: list[Resource], device: Resource) -> Resource:
    made = _resource("Provenance", "provenance", *facts.words)
    made["target"] = [_reference(one) for one in (report, *observations)]
    made["recorded"] = _instant(facts)
    agents = [{"type": _role("assembler", "Assembler"), "who": _reference(device)}]
    if facts.report.signed:
        agents.append({"type": _role("verifier", "Verifier"), "who": {"display": facts.report.signed_by}})
    made["agent"] = agents
    source = {"identifier": {"system": "urn:medge:bundle:sha256", "value": facts.machine.sha256 or "none"}}
    made["entity"] = [
        {"role": "source", "what": {**source, "display": facts.machine.bundle or "no model"}},
        {"role": "source", "what": _study(facts)},
    ]
    return made


def _resource(kind: str, *words: str) -> Resource:
    """An empty resource whose id follows from words."""
    digest = hashlib.sha256("\0".join(("medge", *words)).encode()).digest()
    return {"resourceType": kind, "id": str(uuid.UUID(bytes=digest[:16], version=4))}


def _url(one: Resource) -> str:
    return f"urn:uuid:{one['id']}"


def _reference(one: Resource) -> Resource:
    return {"reference": _url(one), "type": one["resourceType"]}


def _subject(facts: Facts) -> Resource:
    number, name = facts.study.patient_id.strip(), facts.study.patient_name.split("=")[0]
    shown = " ".join(part for part in name.split("^") if part).strip() or "unknown"
    return {"type": "Patient", "display": shown, **({"identifier": {"value": number}} if number else {})}


def _study(facts: Facts) -> Resource:
    return {"type": "ImagingStudy", "identifier": _uid(facts.study.uid)}


def _uid(uid: str) -> Resource:
    return {"system": _UID, "value": f"urn:oid:{uid}"}


def _coding(code: Code) -> Resource:
    return {"system": code.system, "code": code.value, "display": code.meaning}


def _role(code: str, shown: str) -> Resource:
    return {"coding": [{"system": f"{_TERMS}/provenance-participant-type", "code": code, "display": shown}]}


def _instant(facts: Facts) -> str:
    return facts.at.isoformat().replace("+00:00", "Z")


def _day(date: str) -> str:
    """ "20260102" as 2026-01-02; "" of what is no day."""
    try:
        return f"{datetime.strptime(date, '%Y%m%d').date():%Y-%m-%d}"
    except ValueError:
        return ""


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
