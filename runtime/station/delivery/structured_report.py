"""A DICOM Structured Report after TID 1500, as viewers such as OHIF show it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from highdicom.sr import (
    CodedConcept,
    ComprehensiveSR,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageLibrary,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from ..dicom.taking import as_file
from ..store.arrivals import made_uid
from . import codes as words
from .codes import Code, code_of, long_string
from .facts import FINDINGS, IMPRESSION, Facts, Finding
from .marks import MAKER, equipment, remarks, sr_series, stamp
from .words import LANGUAGES

NUMBER = 9701  # of the series; beyond those of devices


def sr_uid(facts: Facts) -> str:
    """The UID of the structured report that says these facts."""
    return made_uid("medge structured report", *facts.words)


def structured_report(facts: Facts, headers: Sequence[Dataset], earlier: Sequence[Dataset] = ()) -> bytes:
    """The report as a DICOM file; the same facts give the same bytes.

    Args:
        facts: what is said.
        headers: of the study's DICOM images, without pixels; at least one, of which patient and study are taken.
        earlier: headers of the reports that this one replaces.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they may quote values
        return as_file(_made(facts, [_usable(one) for one in headers], earlier), ExplicitVRLittleEndian)


def _made(facts: Facts, headers: Sequence[Dataset], earlier: Sequence[Dataset]) -> Dataset:
    report = facts.report
    signer, institution = _person(report.signed_by), long_string(facts.institution)
    made = ComprehensiveSR(
        evidence=headers, content=_content(facts, headers)[0], series_instance_uid=sr_series(facts.study.uid),
        series_number=NUMBER, sop_instance_uid=sr_uid(facts), instance_number=report.version, manufacturer=MAKER,
        is_complete=True, is_final=report.signed, is_verified=report.signed, verifying_observer_name=signer,
        verifying_organization=institution or "not stated", previous_versions=[*earlier] or None,
        institution_name=institution or None, specific_character_set="ISO_IR 192",
        series_description="medge results", manufacturer_model_name="medge station",
        software_versions=facts.machine.version, device_serial_number=facts.machine.sha256[:64] or "none",
    )  # fmt: skip
    plain = Dataset(made)
    stamp(plain, facts)
    if report.signed:
        [verifier] = plain.VerifyingObserverSequence
        verifier.VerificationDateTime = f"{facts.at:%Y%m%d%H%M%S}+0000"
    others = [one for one in plain.get("ContributingEquipmentSequence", ()) if not _of_library(one)]
    plain.ContributingEquipmentSequence = [*others, equipment(facts.machine)]
    return plain


def _of_library(one: Dataset) -> bool:
    """Whether an entry names the library that writes the file, whose version would be part of the bytes."""
    return "highdicom" in str(one.get("Manufacturer", "")).lower() + str(one.get("ManufacturerModelName", "")).lower()


def _content(facts: Facts, headers: Sequence[Dataset]) -> MeasurementReport:
    """The content tree."""
    report, machine = facts.report, facts.machine
    device = ObserverContext(
        codes.DCM.Device,
        DeviceObserverIdentifyingAttributes(
            uid=made_uid("medge device", machine.version, machine.sha256), name="medge station", manufacturer_name=MAKER,
            model_name=machine.bundle or None, serial_number=machine.sha256 or None,
        ),
    )  # fmt: skip
    person = None
    if report.signed:
        person = ObserverContext(codes.DCM.Person, PersonObserverIdentifyingAttributes(name=_person(report.signed_by)))
    known = {str(one.SOPInstanceUID): one for one in headers}
    groups = [_group(facts, number, one, known) for number, one in enumerate(facts.findings, 1)]
    if not groups:  # TID 1500 holds at least one group
        sources = [_source(one, None) for one in [*known.values()][:1]]
        tracked = TrackingIdentifier(uid=made_uid("group", *facts.words), identifier="study")
        groups = [MeasurementsAndQualitativeEvaluations(tracked, source_images=sources)]
    language = Code(report.language, "RFC5646", LANGUAGES.get(report.language, report.language))
    content = MeasurementReport(
        ObservationContext(observer_person_context=person, observer_device_context=device),
        _concept(words.PROCEDURE), groups,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(_concept(language)),
        referenced_images=_library(headers) or None,
    )  # fmt: skip
    for heading, text in [*report.sections(), ("", remarks(facts))]:
        content[0].ContentSequence.append(_text(heading, text))
    return content


def _group(facts: Facts, number: int, one: Finding, known: dict[str, Dataset]) -> MeasurementsAndQualitativeEvaluations:
    """TID 1501: one label in one image."""
    measurements, evaluations = [], []
    if one.probability is not None:
        percent = codes.UCUM.Percent
        measurements = [Measurement(_concept(words.CERTAINTY), round(100 * one.probability, 2), percent)]
    if one.says:
        decision = words.DECISIONS[one.says]
        evaluations = [QualitativeEvaluation(_concept(words.PRESENCE), _concept(decision))]
    image = known.get(one.instance)
    return MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(uid=made_uid("group", str(number), *facts.words), identifier=f"{one.label} {number}"[:64]),
        finding_type=_concept(code_of(one.label)), measurements=measurements, qualitative_evaluations=evaluations,
        source_images=None if image is None else [_source(image, one.frame)],
    )  # fmt: skip


def _source(image: Dataset, frame: int | None) -> SourceImageForMeasurementGroup:
    several = frame is not None and int(image.get("NumberOfFrames") or 1) > 1
    return SourceImageForMeasurementGroup(
        str(image.SOPClassUID), str(image.SOPInstanceUID), [frame + 1] if several and frame is not None else None
    )


def _text(heading: str, text: str) -> ContainerContentItem:
    """A section of the report, as TID 2000 writes it; TID 1500 may be extended."""
    low = heading.casefold()
    if low in FINDINGS:
        name, inner = codes.DCM.Findings, codes.DCM.Finding
    elif low in IMPRESSION:
        name, inner = codes.DCM.Impressions, codes.DCM.Impression
    else:
        name, inner = codes.DCM.Summary, codes.DCM.Finding
    item = ContainerContentItem(name, relationship_type=RelationshipTypeValues.CONTAINS)
    item.ContentSequence = ContentSequence(
        [TextContentItem(inner, text, relationship_type=RelationshipTypeValues.CONTAINS)]
    )
    return item


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning)


def _person(name: str) -> str:
    """A name as DICOM writes it: "Jane Roe" becomes "Roe^Jane"."""
    plain = " ".join(name.replace("\\", " ").replace("=", " ").split())[:64]
    if not plain:
        return "unknown^"
    if "^" in plain:
        return plain
    first, _, last = plain.rpartition(" ")
    return f"{last}^{first}"


def _usable(header: Dataset) -> Dataset:
    """A header that has what a report takes of it; what is missing is empty, as the standard allows."""
    made = Dataset(header)
    for name in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
    ):
        if name not in made:
            setattr(made, name, "")
    return made


def _library(headers: Sequence[Dataset]) -> list[Dataset]:
    """The images that the library has a modality for; the others are named as evidence all the same."""
    try:
        ImageLibrary(headers)
        return [*headers]
    except Exception:
        return [one for one in headers if _fits_library(one)]


def _fits_library(header: Dataset) -> bool:
    try:
        ImageLibrary([header])
    except Exception:  # an image without the attributes of its class, or of a class that is none
        return False
    return True
