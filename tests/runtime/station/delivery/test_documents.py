"""What leaves a station: structured reports, PDF and FHIR say what the report and the models say, the same each time."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("highdicom", reason="highdicom is not installed: pip install 'medge[station]'")
pytest.importorskip("reportlab", reason="reportlab is not installed: pip install 'medge[station]'")

import httpx
import pypdfium2
from clinic_facts import SENTENCES, ct_header, facts, unsigned
from fhir.resources.R4B.bundle import Bundle
from highdicom.sr import srread
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from reportlab.pdfbase import pdfmetrics

from medge.runtime.errors import PeerError
from medge.runtime.station.delivery.codes import code_of
from medge.runtime.station.delivery.facts import MOST_IMAGES, Finding, SignedReport, findings_of
from medge.runtime.station.delivery.fhir import fhir_bundle, to_folder, to_server
from medge.runtime.station.delivery.pdf import encapsulated, pdf
from medge.runtime.station.delivery.structured_report import structured_report
from medge.runtime.station.store.records import Result


def read(content: bytes) -> Dataset:
    return dcmread(io.BytesIO(content))


def texts(made: Dataset) -> str:
    return "\n".join(str(element.value) for element in made.iterall() if element.VR == "UT")


def text_of(document: bytes) -> str:
    pages = pypdfium2.PdfDocument(document)
    return " ".join("".join(page.get_textpage().get_text_range() for page in pages).split())


def result(instance: str, *, frame: int = 0, decision: Any = None, **labels: float) -> dict[str, Any]:
    scores = [{"label": label, "probability": value} for label, value in labels.items()]
    return {"instance": instance, "frame": frame, "labels": scores, "decision": decision, "note": None}


def classified(*instances: dict[str, Any], model: str = "eyes") -> Result:
    return Result(1, 1, "classify", "1.2", {"model": model, "instances": [*instances]}, 0.0)


def test_a_report_has_sections() -> None:
    report = SignedReport("1.2", 1, "No heading.\n\nFINDINGS:\nA.\nB.\n\nImpresión\nC.\nComparison: none.")
    assert report.sections() == [("", "No heading."), ("FINDINGS", "A.\nB."), ("Impresión", "C.\nComparison: none.")]


def test_findings_are_each_images_newest() -> None:
    decision = {"unlike": False, "findings": [{"label": "a", "says": "present", "probability": 0.6}]}
    first = classified(result("1", a=0.2, b=0.8), result("2", a=0.3), model="old")
    second = classified(result("1", decision=decision, a=0.9, b=0.1), {"instance": "3", "error": "no pixels"})
    found, reduced, newest = findings_of([first, second])
    assert found == (Finding("a", 0.6, "present", "1"), Finding("b", 0.1, "", "1"), Finding("a", 0.3, "", "2"))
    assert (reduced, newest["model"]) == (0, "eyes")
    assert findings_of([]) == ((), 0, {})
    unlike = classified(result("1", decision={"unlike": True, "findings": []}, a=0.9))
    assert findings_of([unlike])[0] == (Finding("a", 0.9, "unlike", "1"),)


def test_of_many_images_each_labels_likeliest() -> None:
    many = classified(*(result(str(number), a=number / 100, b=0.5 - number / 100) for number in range(MOST_IMAGES + 1)))
    found, reduced, _ = findings_of([many])
    assert (found, reduced) == ((Finding("b", 0.5, "", "0"), Finding("a", MOST_IMAGES / 100, "", str(MOST_IMAGES))), 13)


def test_a_structured_report_says_all_of_it() -> None:
    content = structured_report(facts("fr"), [ct_header()])
    assert content == structured_report(facts("fr"), [ct_header()])
    read_back = srread(io.BytesIO(content))
    assert (read_back.VerificationFlag, read_back.PreliminaryFlag, read_back.CompletionFlag) == (
        "VERIFIED",
        "FINAL",
        "COMPLETE",
    )
    [verifier] = read_back.VerifyingObserverSequence
    assert (verifier.VerifyingObserverName, verifier.VerifyingOrganization) == ("Müller^Zoë", "Clinique d'Été")
    assert str(verifier.VerificationDateTime) == "20270115080100+0000"
    machine = read_back.ContributingEquipmentSequence[-1]
    assert (machine.Manufacturer, machine.SoftwareVersions, machine.ManufacturerModelName) == (
        "medge",
        "medge 0.1.0",
        "eyes",
    )
    assert "ab" * 32 in machine.ContributionDescription
    assert "recipe int8; parity passed" in machine.ContributionDescription
    groups = read_back.content.get_image_measurement_groups()
    assert [group.finding_type.meaning for group in groups] == ["Pneumonia", "head MRI"]
    assert [float(group.get_measurements()[0].value) for group in groups] == [87.34, 1.0]
    assert [group.get_qualitative_evaluations()[0].value.meaning for group in groups] == ["Present", "Absent"]
    assert read_back.StudyInstanceUID == ct_header().StudyInstanceUID
    assert read_back.SeriesInstanceUID != ct_header().SeriesInstanceUID
    said = texts(read_back)
    assert SENTENCES["fr"] in said
    assert "not a medical device" in said.lower()
    [evidence] = read_back.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == ct_header().SOPInstanceUID


def test_a_draft_is_not_verified_and_another_report() -> None:
    draft = read(structured_report(unsigned(facts()), [ct_header()]))
    assert (draft.VerificationFlag, draft.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert "VerifyingObserverSequence" not in draft
    assert "Draft: no person has signed" in texts(draft)
    signed = read(structured_report(facts(), [ct_header()], [draft]))
    [earlier] = signed.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert earlier.ReferencedSOPInstanceUID == draft.SOPInstanceUID
    assert signed.SOPInstanceUID != draft.SOPInstanceUID
    assert signed.SeriesInstanceUID == draft.SeriesInstanceUID


def test_a_report_without_scores_on_an_image_of_no_known_class() -> None:
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    header.StudyInstanceUID, header.SeriesInstanceUID, header.Rows, header.Columns = "1.2", "1.2.8", 4, 4
    made = read(structured_report(replace(facts(), findings=()), [header]))
    [evidence] = made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"
    assert "Pneumonia." in texts(made)


@pytest.mark.parametrize("language", SENTENCES)
def test_a_pdf_has_every_letter(language: str) -> None:
    document = pdf(facts(language))
    assert document == pdf(facts(language))
    text = text_of(document)
    assert SENTENCES[language] in text
    for words in (
        "Roe Zoë",
        "1970-01-02",
        "Zoë Müller, 2027-01-15 08:01 UTC",
        "87.3 %",
        "Not a medical device",
        "Clinique d'Été",
    ):
        assert words in text
    glyphs = pdfmetrics.getFont("medge-text").face.charToGlyph
    assert {letter for letter in text if ord(letter) not in glyphs} == set()


def test_a_draft_says_so_on_its_page_and_markup_is_text() -> None:
    made = unsigned(facts())
    text = text_of(pdf(replace(made, report=replace(made.report, text="<b>5 < 6</b> & more"))))
    assert "<b>5 < 6</b> & more" in text
    assert "Draft, not signed" in text


def test_the_pdf_within_dicom() -> None:
    document = pdf(facts())
    made = read(encapsulated(facts(), document, [ct_header()]))
    assert made.EncapsulatedDocument[: made.EncapsulatedDocumentLength] == document
    assert (made.VerificationFlag, made.Modality, made.PatientName) == ("VERIFIED", "DOC", "CompressedSamples^CT1")
    assert made.SourceInstanceSequence[0].ReferencedSOPInstanceUID == ct_header().SOPInstanceUID
    assert read(encapsulated(unsigned(facts()), document, [ct_header()])).VerificationFlag == "UNVERIFIED"


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def test_fhir_is_valid_and_says_all_of_it() -> None:
    made = fhir_bundle(facts(), b"%PDF", "1.2.3")
    assert made == fhir_bundle(facts(), b"%PDF", "1.2.3")
    Bundle.model_validate(made)
    [report] = resources(made, "DiagnosticReport")
    assert (report["status"], report["conclusion"], report["performer"]) == (
        "final",
        "Pneumonia.",
        [{"display": "Zoë Müller"}],
    )
    assert report["subject"] == {"type": "Patient", "display": "Roe Zoë", "identifier": {"value": "P1"}}
    assert [base64.b64decode(form["data"])[:4] for form in report["presentedForm"]] == [b"Find", b"%PDF"]
    first, second = resources(made, "Observation")
    assert [one["reference"] for one in report["result"]] == [f"urn:uuid:{one['id']}" for one in (first, second)]
    assert first["code"]["coding"][0]["code"] == "233604007"
    assert first["component"][0]["valueQuantity"]["value"] == 87.34
    assert second["valueCodeableConcept"]["text"] == "Absent"
    [provenance] = resources(made, "Provenance")
    assert provenance["entity"][0]["what"]["identifier"]["value"] == "ab" * 32
    assert [agent["type"]["coding"][0]["code"] for agent in provenance["agent"]] == ["assembler", "verifier"]


def test_fhir_of_drafts_amendments_and_what_is_missing() -> None:
    draft = unsigned(replace(facts(), findings=(Finding("x", None, "", "1"), Finding("y", None, "unlike", "1"))))
    draft = replace(draft, study=replace(draft.study, date="none", patient_id="", patient_name=""))
    made = fhir_bundle(draft)
    Bundle.model_validate(made)
    [report] = resources(made, "DiagnosticReport")
    assert (report["status"], report["subject"]["display"]) == ("preliminary", "unknown")
    assert "effectiveDateTime" not in report
    amended = fhir_bundle(replace(facts(), amends=True))
    Bundle.model_validate(amended)
    [later] = resources(amended, "DiagnosticReport")
    assert (later["status"], later["id"]) == ("amended", report["id"])  # the same report, in its next version


def test_fhir_to_a_folder_and_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fhir_bundle(facts())
    place = to_folder(made, tmp_path / "out")
    assert to_folder(made, tmp_path / "out") == place
    assert [json.loads(path.read_text()) for path in (tmp_path / "out").iterdir()] == [made]
    assert "Roe" not in place.name
    asked: list[tuple[str, Any]] = []

    def post(url: str, **given: Any) -> httpx.Response:
        asked.append((url, given))
        return httpx.Response(201 if len(asked) == 1 else 422)

    monkeypatch.setattr(httpx, "post", post)
    to_server(made, "http://127.0.0.1/fhir", "word")
    [(url, given)] = asked
    assert (url, json.loads(given["content"])) == ("http://127.0.0.1/fhir", made)
    assert given["headers"]["Authorization"] == "Bearer word"
    with pytest.raises(PeerError, match="refused the report \\(HTTP status 422\\)"):
        to_server(made, "http://127.0.0.1/fhir")
    monkeypatch.undo()
    with pytest.raises(PeerError, match="does not answer"):
        to_server(made, "http://127.0.0.1:9/fhir")


def test_codes_are_dicoms_own_where_it_has_them() -> None:
    from pydicom.sr.codedict import codes

    assert code_of("Pleural_Effusion").value == codes.SCT.PleuralEffusion.value
    assert code_of("pneumothorax").value == codes.SCT.Pneumothorax.value
    assert code_of("edema").value == codes.SCT.PulmonaryEdema.value
    own = code_of("a label of the clinic's own")
    assert (own.scheme, len(own.value) <= 16, own.meaning) == ("99MEDGE", True, "a label of the clinic's own")
    assert code_of("é" * 300).meaning == "é" * 64
    assert own.value != code_of("another").value
    assert code_of("one\\two\nthree").meaning == "one/two three"  # a backslash would part it into two values


WORDS = st.text(max_size=90)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(WORDS, WORDS, WORDS, WORDS, st.text(max_size=4000), st.floats(0, 1))
def test_whatever_is_written_in_it(
    name: str, label: str, institution: str, bundle: str, text: str, value: float
) -> None:
    made = facts()
    report = replace(made.report, text=text, signed_by=name)
    machine, study = (
        replace(made.machine, bundle=bundle),
        replace(made.study, patient_name=name, description=institution),
    )
    findings = (Finding(label, value, "present", made.findings[0].instance),)
    made = replace(made, report=report, machine=machine, study=study, findings=findings, institution=institution)
    back = read(structured_report(made, [ct_header()]))
    assert back.SOPInstanceUID == read(structured_report(made, [ct_header()])).SOPInstanceUID
    back.walk(lambda data, element: None)  # every value can be read
    document = pdf(made)
    assert read(encapsulated(made, document, [ct_header()])).EncapsulatedDocument.rstrip(b"\0") == document.rstrip(
        b"\0"
    )
    Bundle.model_validate(fhir_bundle(made, document, back.SOPInstanceUID))
