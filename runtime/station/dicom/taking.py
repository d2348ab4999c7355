"""An object from another system, taken by the station: what became of it, in DICOM's statuses."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from ...errors import ImageError, MedgeError, ObjectRefusedError, StationFullError
from ...pictures.dicom_header import read_header
from ..station import Station
from ..store.arrivals import made_uid
from ..store.records import Instance
from ..work.jobs import NewJob

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LOG = logging.getLogger("medge.station")
# Statuses of C-STORE, PS3.4 table B.2-1, which STOW-RS gives as failure reasons as well.
STORED = 0x0000
FULL = 0xA700
OTHER_CLASS = 0xA900  # the data set does not match what the request calls it
REFUSED = 0xC000
OTHER_OBJECT = 0xC111  # another object with this UID is here, and stays
FAULT = 0x0110
IMPLEMENTATION = made_uid("medge", "implementation class")
_GROUP_LENGTH = 144  # where the header's first element, its length, ends
_PIECE = 1 << 20

Then = Callable[[Instance], Sequence[NewJob]]


def no_jobs(instance: Instance) -> Sequence[NewJob]:
    """An object that asks for nothing."""
    return ()


@dataclass(frozen=True)
class Expected:
    """What a request, or an object itself, calls an object; "" where it does not say."""

    sop_class: str = ""
    uid: str = ""
    study: str = ""


@dataclass(frozen=True)
class Taken:
    """What became of an object.

    Attributes:
        status: `STORED`, or why not.
        reason: in a sentence, without a value of the object; "" of one that is stored.
        sop_class, uid: the object's own; "" where it does not say.
        instance: what the station holds under its UID; None where it was refused.
    """

    status: int
    reason: str = ""
    sop_class: str = ""
    uid: str = ""
    instance: Instance | None = None


def take(
    station: Station, source: bytes | BinaryIO, *, who: str, expected: Expected = Expected(), then: Then = no_jobs
) -> Taken:  # fmt: skip
    """Store an object; when this says `STORED`, it is on the disk.

    Args:
        station: takes it.
        source: a DICOM file, or a stream of one.
        who: the device, for the audit log.
        expected: what the request calls it.
        then: the jobs that a new object asks for.

    Returns:
        What became of it; nothing is raised. The same data set under another file header, as another way of sending gives it, is
        the same object.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    found = Expected()
    try:
        start = stream.tell()
        found = _names(stream)
        if any(asked and asked != said for asked, said in zip(astuple(expected), astuple(found), strict=True)):
            return Taken(
                OTHER_CLASS,
                "the object's class, UID or study is not what the request names",
                found.sop_class,
                found.uid,
            )
        stream.seek(start)
        received = station.put(stream, who=who, then=then)
        if received.differs:
            stream.seek(start)
            with station.read(received.instance) as kept:
                if not _same(kept, stream):
                    said = "another object with this SOP Instance UID is here and was kept"
                    return Taken(OTHER_OBJECT, said, found.sop_class, found.uid, received.instance)
        return Taken(STORED, "", found.sop_class, found.uid, received.instance)
    except StationFullError:
        return Taken(
            FULL, "the station's disk is full; send the object again when there is space", found.sop_class, found.uid
        )
    except ObjectRefusedError as error:
        return Taken(REFUSED, str(error), found.sop_class, found.uid)
    except Exception as error:
        _LOG.error("an object of %s could not be stored: %s", who, type(error).__name__)
        return Taken(
            FAULT, str(error) if isinstance(error, MedgeError) else "a fault in the station", found.sop_class, found.uid
        )


def _names(stream: BinaryIO) -> Expected:
    """What an object calls itself.

    Raises:
        ObjectRefusedError: it is no DICOM file.
    """
    names = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")
    try:
        header = read_header(stream, "the object", names)
        return Expected(*(str(header.get(name) or "").strip(" \0") for name in names))
    except ImageError as error:
        raise ObjectRefusedError(str(error)) from error


def _same(kept: BinaryIO, sent: BinaryIO) -> bool:
    """Whether two DICOM files hold the same data set in the same encoding, whatever wrote their headers."""
    syntaxes = [_after_meta(stream) for stream in (kept, sent)]
    if syntaxes[0] != syntaxes[1] or not syntaxes[0]:
        return False
    while True:
        one, other = kept.read(_PIECE), sent.read(_PIECE)
        if one != other or not one:
            return one == other


def _after_meta(stream: BinaryIO) -> str:
    """Move to the data set of a DICOM file; its transfer syntax, "" where its header can't be told apart."""
    head = stream.read(_GROUP_LENGTH)
    if head[132:140] != b"\x02\0\0\0UL\x04\0":
        return ""
    meta = read_dataset(io.BytesIO(stream.read(int.from_bytes(head[140:144], "little"))), False, True)
    return str(meta.get("TransferSyntaxUID", ""))


def take_request(
    station: Station, request: Any, transfer_syntax: str, *, who: str, study: str = "", then: Then = no_jobs
) -> Taken:  # fmt: skip
    """Store the object of a C-STORE request, as pynetdicom hands it out.

    Args:
        station, who, then: as in `take`.
        request: names the object and holds its data set.
        transfer_syntax: of the data set.
        study: that it has to be of; any where "".
    """
    sop_class, uid = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
    source = joined(file_header(sop_class, uid, transfer_syntax), request.DataSet)
    return take(station, source, who=who, expected=Expected(sop_class, uid, study), then=then)


def file_header(sop_class: str, uid: str, transfer_syntax: str) -> bytes:
    """What stands in a DICOM file before the data set: always the same bytes for the same object."""
    out = DicomBytesIO()
    out.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(out, _meta(sop_class, uid, transfer_syntax), enforce_standard=True)
    return out.getvalue()


def _meta(sop_class: str, uid: str, transfer_syntax: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID(uid)
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID, meta.ImplementationVersionName = UID(IMPLEMENTATION), "MEDGE"
    return meta


def as_file(dataset: Dataset, transfer_syntax: str) -> bytes:
    """A data set as a DICOM file, with the header of `file_header`."""
    out = io.BytesIO()
    dataset.preamble = b"\0" * 128
    dataset.file_meta = _meta(dataset.SOPClassUID, dataset.SOPInstanceUID, transfer_syntax)
    dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def joined(header: bytes, rest: BinaryIO) -> BinaryIO:
    """A header and a data set, read as one file without a copy of the data set."""
    return cast(BinaryIO, Joined(header, rest))


class Joined(io.RawIOBase):
    """What `joined` reads.

    Args:
        header: comes first.
        rest: a stream that can seek.
    """

    def __init__(self, header: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._parts: tuple[BinaryIO, BinaryIO] = (io.BytesIO(header), rest)
        self._split = len(header)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 2:
            offset += self._split + self._parts[1].seek(0, 2)
        elif whence == 1:
            offset += self._at
        self._at = max(offset, 0)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view, filled = memoryview(buffer), 0
        for part, begin in zip(self._parts, (0, self._split), strict=True):
            if filled < len(view) and (begin or self._at < self._split):
                part.seek(self._at - begin)
                piece = part.read(len(view) - filled)
                view[filled : filled + len(piece)] = piece
                filled, self._at = filled + len(piece), self._at + len(piece)
        return filled
