"""The report as a PDF, alone and within a DICOM object, for viewers that show no structured report."""

from __future__ import annotations

import html
import io
import warnings
from collections.abc import Sequence

from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian
from reportlab import rl_config
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table

from ..dicom.taking import as_file
from ..store.arrivals import made_uid
from .codes import long_string
from .facts import Facts, Finding
from .marks import MAKER, equipment, remarks, stamp
from .words import Words, words_in

NUMBER = 9702  # of the series
_FONT, _BOLD = (
    "medge-text",
    "medge-bold",
)  # Bitstream Vera, which comes with reportlab: the letters of western languages
_MOST_ROWS = 200


def pdf(facts: Facts) -> bytes:
    """The report as a PDF of A4 pages; the same facts give the same bytes."""
    for name, file in ((_FONT, "Vera.ttf"), (_BOLD, "VeraBd.ttf")):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, file))
    out = io.BytesIO()
    said = words_in(facts.report.language)
    kept, rl_config.invariant = rl_config.invariant, 1  # no time of writing
    try:
        document = SimpleDocTemplate(
            out, pagesize=A4, leftMargin=20 * mm, rightMargin=20 * mm, topMargin=18 * mm, bottomMargin=18 * mm,
            title=said.report, author=MAKER, invariant=1, lang=facts.report.language,
        )  # fmt: skip
        document.build(_flow(facts, said))
    finally:
        rl_config.invariant = kept
    return out.getvalue()


def _flow(facts: Facts, said: Words) -> list[Flowable]:
    text = ParagraphStyle("text", fontName=_FONT, fontSize=9.5, leading=13.5)
    small = ParagraphStyle("small", parent=text, fontSize=7.5, leading=10)
    head = ParagraphStyle("head", parent=text, fontName=_BOLD, fontSize=11, leading=16, spaceBefore=8)
    title = ParagraphStyle("title", parent=head, fontSize=15, leading=20)
    study, report = facts.study, facts.report

    def paragraph(words: str, style: ParagraphStyle) -> Paragraph:
        return Paragraph(html.escape(words).replace("\n", "<br/>"), style)

    name = " ".join(part for part in study.patient_name.split("=")[0].split("^") if part)
    rows = [
        (said.patient, name), (said.number, study.patient_id), (said.born, _day(study.birth_date)),
        (said.study, " ".join(part for part in (_day(study.date), study.description, study.accession) if part)),
    ]  # fmt: skip
    flow: list[Flowable] = [paragraph(" - ".join(one for one in (said.report, facts.institution) if one), title)]
    flow.append(Table([[paragraph(one, small), paragraph(other, text)] for one, other in rows], [30 * mm, 140 * mm]))
    for heading, words in report.sections():
        if heading:
            flow.append(paragraph(heading, head))
        flow += [paragraph(part, text) for part in words.split("\n\n") if part.strip()]
    signed = f"{said.signed} {report.signed_by}, {facts.at:%Y-%m-%d %H:%M} UTC" if report.signed else said.draft
    flow += [Spacer(1, 4 * mm), paragraph(signed, head)]
    if facts.findings:
        flow += [paragraph(said.scores, head), _scores(facts.findings, said, small)]
    machine = facts.machine
    made = [f"medge {machine.version}"]
    if machine.bundle:
        made += [machine.bundle, machine.recipe, f"parity {machine.parity}", f"SHA-256 {machine.sha256}"]
    flow += [
        Spacer(1, 4 * mm),
        paragraph(remarks(facts), small),
        paragraph("; ".join(one for one in made if one), small),
    ]
    return flow


def _scores(findings: Sequence[Finding], said: Words, style: ParagraphStyle) -> Table:
    rows = [[Paragraph(html.escape(word), style) for word in (said.label, said.probability, said.decision)]]
    for one in findings[:_MOST_ROWS]:
        percent = "" if one.probability is None else f"{100 * one.probability:.1f} %"
        cells = (one.label[:200], percent, said.says(one.says))
        rows.append([Paragraph(html.escape(cell), style) for cell in cells])
    return Table(rows, [80 * mm, 35 * mm, 55 * mm], repeatRows=1)


def _day(date: str) -> str:
    """ "20260102" as 2026-01-02."""
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 and date.isdigit() else date


def pdf_series(study: str) -> str:
    """The UID of the series that a study's PDF documents form."""
    return made_uid("medge PDF", study)


def pdf_uid(facts: Facts) -> str:
    """The UID of the object that holds the PDF of these facts."""
    return made_uid("medge PDF object", *facts.words)


def encapsulated(facts: Facts, document: bytes, headers: Sequence[Dataset]) -> bytes:
    """A PDF as a DICOM file of the study; the same facts give the same bytes.

    Args:
        facts: what is said.
        document: the PDF.
        headers: of the study's DICOM images; patient and study are taken of the first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they may quote values
        return as_file(_object(facts, document, headers), ExplicitVRLittleEndian)


def _object(facts: Facts, document: bytes, headers: Sequence[Dataset]) -> Dataset:
    first, report, machine = headers[0], facts.report, facts.machine
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = EncapsulatedPDFStorage, pdf_uid(facts)
    made.StudyInstanceUID, made.SeriesInstanceUID = facts.study.uid, pdf_series(facts.study.uid)
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
                 "StudyID", "ReferringPhysicianName"):  # fmt: skip
        setattr(made, name, first.get(name, ""))
    if first.get("StudyDescription"):
        made.StudyDescription = first.StudyDescription
    made.Modality, made.SeriesNumber, made.InstanceNumber = "DOC", NUMBER, report.version
    made.SeriesDescription = "medge results (PDF)"
    made.Manufacturer, made.ManufacturerModelName, made.SoftwareVersions = MAKER, "medge station", machine.version
    made.ConversionType, made.BurnedInAnnotation, made.RecognizableVisualFeatures = "WSD", "YES", "NO"
    if institution := long_string(facts.institution):
        made.InstitutionName = institution
    stamp(made, facts)
    made.AcquisitionDateTime = f"{facts.at:%Y%m%d%H%M%S}+0000"
    made.DocumentTitle = words_in(report.language).report
    made.VerificationFlag = "VERIFIED" if report.signed else "UNVERIFIED"
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = "18748-4", "LN", "Diagnostic imaging report"
    made.ConceptNameCodeSequence = [title]
    made.SourceInstanceSequence = [_reference(one) for one in headers]
    made.ContributingEquipmentSequence = [equipment(machine)]
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(document)
    made.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return made


def _reference(header: Dataset) -> Dataset:
    one = Dataset()
    one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return one
