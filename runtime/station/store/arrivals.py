"""What an object says of itself: the study, series and instance that it belongs to."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import ImageError, ObjectRefusedError
from ...json_text import flattened
from .objects import Arrived
from .records import Instance, Series, Study

if TYPE_CHECKING:
    from pydicom import Dataset

_ATTRIBUTES = (
    "SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientName", "PatientID", "PatientBirthDate",
    "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyDescription", "Modality", "SeriesNumber",
    "SeriesDescription", "BodyPartExamined", "InstanceNumber", "NumberOfFrames", "Rows", "Columns",
)  # fmt: skip
_LONGEST_TEXT = 256
_LONGEST_UID = 128  # the standard allows 64, and devices break it
_LARGEST_NUMBER = 2**31 - 1
# Signatures of the formats that `pictures` reads.
_PICTURES: dict[str, Callable[[bytes], bool]] = {
    "png": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    "jpeg": lambda head: head.startswith(b"\xff\xd8\xff"),
    "tiff": lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "bmp": lambda head: head.startswith(b"BM"),
    "webp": lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP",
}
_PHOTOGRAPH = "XC"  # DICOM's modality for external-camera photography


@dataclass(frozen=True)
class Patient:
    """Whose pictures are uploaded, where they can't say so themselves.

    Attributes:
        name: as DICOM writes it, with ^ between its parts.
        id: the clinic's number.
        birth_date: YYYYMMDD, or "".
        sex: "F", "M", "O" or "".
        description: of the study.
    """

    name: str = ""
    id: str = ""
    birth_date: str = ""
    sex: str = ""
    description: str = ""


NOBODY = Patient()


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with these 132 bytes carries DICOM's mark."""
    return head[128:132] == b"DICM"


def is_picture(head: bytes) -> bool:
    """Whether a file that begins like this is of a format that `pictures` reads."""
    return any(fits(head) for fits in _PICTURES.values())


@dataclass(frozen=True)
class Identity:
    """The rows that an object is entered under."""

    study: Study
    series: Series
    instance: Instance


def identify(arrived: Arrived, at: float, *, study: str | None, patient: Patient) -> Identity:
    """Read where an object belongs.

    Args:
        arrived: the object.
        at: when it came, in seconds since 1970.
        study: a picture's study; where None, it is a study of its own. DICOM says its own.
        patient: of a picture.

    Raises:
        ObjectRefusedError: neither DICOM with its identifiers nor a picture; the message holds no value of it.
    """
    with arrived.path.open("rb") as stream:
        head = stream.read(132)
        marked = is_dicom(head)
        kind = next((name for name, fits in _PICTURES.items() if fits(head)), None)
        if kind and not marked:
            return _picture(arrived, at, kind, study, patient)
        from ...pictures.dicom_header import read_header  # pydicom takes a while to load, and most workers need none

        stream.seek(0)
        try:
            return _dicom(read_header(stream, "the object", _ATTRIBUTES), arrived, at)
        except ImageError as error:
            raise ObjectRefusedError(
                str(error) if marked else "the object is neither DICOM nor PNG, JPEG, TIFF, BMP or WebP"
            ) from error


def _dicom(header: Dataset, arrived: Arrived, at: float) -> Identity:
    uids = [_uid(header, name) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
    meta = getattr(header, "file_meta", None)
    return Identity(
        Study(
            uids[0], _text(header, "PatientName"), _text(header, "PatientID"), _text(header, "PatientBirthDate"),
            _text(header, "PatientSex"), _text(header, "StudyDate"), _text(header, "StudyTime"),
            _text(header, "AccessionNumber"), _text(header, "StudyDescription"), at,
        ),
        Series(
            uids[1], uids[0], _text(header, "Modality"), _number(header, "SeriesNumber"),
            _text(header, "SeriesDescription"), _text(header, "BodyPartExamined"),
        ),
        Instance(
            uids[2], uids[1], "dicom", _text(header, "SOPClassUID"), _text(meta, "TransferSyntaxUID"),
            _number(header, "InstanceNumber"), max(_number(header, "NumberOfFrames") or 1, 1), _number(header, "Rows"),
            _number(header, "Columns"), arrived.sha256, arrived.bytes, at,
        ),
    )  # fmt: skip


def _picture(arrived: Arrived, at: float, kind: str, study: str | None, patient: Patient) -> Identity:
    study = study or made_uid("study", arrived.sha256)
    series = made_uid("series", study)
    name, number, born, sex, description = (
        flattened(text, _LONGEST_TEXT)
        for text in (patient.name, patient.id, patient.birth_date, patient.sex, patient.description)
    )
    return Identity(
        Study(study, name, number, born, sex, "", "", "", description, at),
        Series(series, study, _PHOTOGRAPH, None, "", ""),
        Instance(
            made_uid("picture", study, arrived.sha256), series, kind, "", "", None, 1, None, None, arrived.sha256,
            arrived.bytes, at,
        ),
    )  # fmt: skip


def made_uid(*words: str) -> str:
    """A DICOM UID that follows from words: the same words, the same UID (under 2.25, which is for UUIDs)."""
    digest = hashlib.sha256("\0".join(words).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


def _uid(header: Dataset, name: str) -> str:
    value = _value(header, name)
    written = "" if value is None else str(value).strip(" \0")
    if not written:
        raise ObjectRefusedError(f"the object has no {name}, so it can't be told from others")
    if len(written) > _LONGEST_UID or not written.isascii() or not written.isprintable() or set(written) & set(" /\\"):
        raise ObjectRefusedError(f"the object's {name} is no UID")
    return written


def _text(header: Dataset | None, name: str) -> str:
    value = _value(header, name)
    try:
        return "" if value is None else flattened(str(value), _LONGEST_TEXT)
    except Exception:  # a name in characters that its header does not declare
        return ""


def _number(header: Dataset, name: str) -> int | None:
    try:
        found = int(_value(header, name))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if abs(found) <= _LARGEST_NUMBER else None


def _value(header: Dataset | None, name: str) -> Any:
    """An attribute's value; None where it is missing or can't be parsed, which pydicom does when it is asked for."""
    try:
        return None if header is None else header.get(name)
    except Exception:
        return None
