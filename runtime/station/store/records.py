"""What a station holds, as others see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Study:
    """A study: a patient's examination, or pictures that were uploaded together.

    Attributes:
        uid: the Study Instance UID.
        patient_name: as DICOM writes it, with ^ between its parts.
        patient_id, birth_date, sex: of the patient; "" where not stated, dates as YYYYMMDD.
        date, time: of the study, as DICOM writes them; "" where not stated.
        accession: the order's number.
        description: of the study.
        received: when its first object came, in seconds since 1970.
    """

    uid: str
    patient_name: str
    patient_id: str
    birth_date: str
    sex: str
    date: str
    time: str
    accession: str
    description: str
    received: float


@dataclass(frozen=True)
class Series:
    """A series of a study.

    Attributes:
        uid: the Series Instance UID.
        study: the study's UID.
        modality: as DICOM writes it: "CT", "DX"; "XC" of pictures that are no DICOM.
        number: its number; None where not stated.
        description, body_part: "" where not stated.
    """

    uid: str
    study: str
    modality: str
    number: int | None
    description: str
    body_part: str


@dataclass(frozen=True)
class Instance:
    """An object: a DICOM file, or a picture.

    Attributes:
        uid: the SOP Instance UID; of a picture, one made of its bytes and its study.
        series: the series's UID.
        kind: "dicom", or the format of a picture: "png", "jpeg", "tiff", "bmp", "webp".
        sop_class, transfer_syntax: UIDs; "" of a picture.
        number: its number in the series; None where not stated.
        frames: how many, at least 1.
        rows, columns: pixels of a frame, as the header says; None where it doesn't.
        sha256: of its bytes, in hexadecimal.
        bytes: its size.
        received: when it came, in seconds since 1970.
    """

    uid: str
    series: str
    kind: str
    sop_class: str
    transfer_syntax: str
    number: int | None
    frames: int
    rows: int | None
    columns: int | None
    sha256: str
    bytes: int
    received: float


@dataclass(frozen=True)
class Received:
    """What became of an object that was sent.

    Attributes:
        instance: what the station holds under its UID.
        is_new: it was not there before.
        differs: another object with the same UID was there, which stays; the new one was not kept, and the audit log says so.
    """

    instance: Instance
    is_new: bool
    differs: bool = False


@dataclass(frozen=True)
class Listed:
    """A study in the worklist.

    Attributes:
        study: the study.
        state: "new" (no job was ever asked for), "waiting", "running", "done" or "needs a look" (a job is parked).
        modalities: of its series, sorted.
        instances: how many objects.
        bytes: their size.
        picture: the UID of an instance that shows what it is; None where none has pixels.
        report: "none", "draft", "signed" or "released".
    """

    study: Study
    state: str
    modalities: tuple[str, ...]
    instances: int
    bytes: int
    picture: str | None
    report: str


@dataclass(frozen=True)
class Result:
    """What a job found.

    Attributes:
        id: its number.
        job: the job's number; None of what no job made.
        kind: the job's kind.
        study: the study's UID; None of what belongs to none.
        content: what the job's handler returned.
        created: in seconds since 1970.
    """

    id: int
    job: int | None
    kind: str
    study: str | None
    content: Any
    created: float
