"""Codes for what is said: SNOMED CT where a label has one, DICOM's own for the rest, and medge's where there is neither."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ...json_text import flattened
from .facts import Says

OWN = "99MEDGE"  # a private scheme, as PS3.16 section 8.2 allows
_LONGEST = 64  # characters of DICOM's LO
# How a scheme is called in FHIR.
_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    OWN: "urn:medge:codes",
}


@dataclass(frozen=True)
class Code:
    """A coded word.

    Attributes:
        value, scheme, meaning: as DICOM's code sequences have them.
    """

    value: str
    scheme: str
    meaning: str

    @property
    def system(self) -> str:
        """The scheme as FHIR calls it."""
        return _SYSTEMS[self.scheme]


CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
FINDING = Code("121071", "DCM", "Finding")
PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
PRESENCE = Code("PRESENCE", OWN, "Presence of finding")
DECISIONS: dict[Says, Code] = {
    "present": Code("52101004", "SCT", "Present"),
    "absent": Code("272519000", "SCT", "Absent"),
    "uncertain": Code("82334004", "SCT", "Indeterminate"),
    "unlike": Code("UNLIKE", OWN, "Unlike anything the model was calibrated on"),
}
# Findings that public data sets label most, by every name that they have there.
_KNOWN: dict[str, tuple[str, str]] = {
    "atelectasis": ("46621007", "Atelectasis"),
    "cardiomegaly": ("8186001", "Cardiomegaly"),
    "consolidation": ("95436008", "Pulmonary consolidation"),
    "edema": ("19242006", "Pulmonary edema"),
    "pulmonary edema": ("19242006", "Pulmonary edema"),
    "emphysema": ("87433001", "Pulmonary emphysema"),
    "pleural effusion": ("60046008", "Pleural effusion"),
    "effusion": ("60046008", "Pleural effusion"),
    "pneumonia": ("233604007", "Pneumonia"),
    "pneumothorax": ("36118008", "Pneumothorax"),
    "tuberculosis": ("56717001", "Tuberculosis"),
    "fracture": ("125605004", "Fracture of bone"),
}


def code_of(label: str) -> Code:
    """A label's code: SNOMED CT's where it is one of the well-known ones, else one of medge's own that follows from its words."""
    known = _KNOWN.get(label.strip().casefold().replace("_", " "))
    if known is not None:
        return Code(known[0], "SCT", known[1])
    digest = hashlib.sha256(label.encode()).hexdigest()[:12].upper()
    return Code(f"L{digest}", OWN, long_string(label) or "unnamed")


def long_string(text: str) -> str:
    """A text as DICOM's LO takes it: one line of at most 64 characters, without the backslash that parts values."""
    return flattened(text.replace("\\", "/"))[:_LONGEST].strip()
