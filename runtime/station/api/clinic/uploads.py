"""`POST /v1/studies`: files into the station."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from ....errors import ObjectRefusedError, StationFullError
from ....json_text import flattened
from ...reading.intake import jobs_for
from ...station import Station
from ...store.arrivals import NOBODY, Patient
from ...store.records import Received
from ..problems import Problem, RefusedError, problem_of
from ..service import At, Held
from ..who import Reader
from .archives import Archive, is_archive
from .bodies import CHANGING
from .multipart import Spool, larger

router = APIRouter(tags=["studies"])
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object", "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array", "items": {"type": "string", "format": "binary"},
                            "description": "DICOM, PNG, JPEG, TIFF, BMP or WebP files, or zips of such",
                        },
                        "study": {"type": "string", "description": "of pictures: the UID of the study that they belong to"},
                        "patient_name": {"type": "string", "description": "of pictures, as DICOM writes it"},
                        "patient_id": {"type": "string", "description": "of pictures: the clinic's number"},
                    },
                }
            }
        },
    }
}  # fmt: skip


class ReceivedBody(BaseModel):
    """What became of one file: `new` where it was not there before, `differs` where another object has its UID, which stays; or
    an `error`."""

    name: str
    instance: str | None = None
    study: str | None = None
    new: bool | None = None
    differs: bool | None = None
    error: Problem | None = None


class ReceivedList(BaseModel):
    """Each file of the request, those of zips too; `left_out` counts files of zips that are no images, such as a CD's viewer."""

    received: list[ReceivedBody]
    left_out: int = 0


@router.post(
    "/v1/studies", summary="Send files", responses=CHANGING, openapi_extra=_FORM, response_model_exclude_none=True
)
async def upload(request: Request, at: At, held: Held, user: Reader) -> ReceivedList:
    """Whatever is acknowledged is on the disk, with the job to judge it. A file that is refused is an error of its own. DICOM
    says itself where it belongs; a picture is a study of its own where no `study` is named. What is sent twice is kept once."""

    def room(size: int) -> bool:
        return held.free_bytes() > size

    spool = Spool(request.headers.get("content-type", ""), held.folder / "arriving", room)
    with contextlib.closing(spool):
        try:
            async for piece in larger(request.stream()):
                await anyio.to_thread.run_sync(spool.feed, piece)
        except ClientDisconnect as error:
            raise RefusedError("the client has gone", status=499) from error
        except OSError as error:
            raise StationFullError("the station's disk takes no more") from error
        spool.finish()
        return await anyio.to_thread.run_sync(_take_all, held, spool, user.name)


def _take_all(held: Station, spool: Spool, who: str) -> ReceivedList:
    study, patient = _whose(spool.fields)
    if not spool.files:
        raise RefusedError("no files came: send each as a part named 'files'", param="files")
    told = ReceivedList(received=[])
    for sent in spool.files:
        piece = spool.open(sent)
        head = piece.read(132)
        piece.seek(0)
        if not is_archive(head or b""):
            told.received.append(_taken(held, sent.name, piece, who, study, patient))
            continue
        try:
            archive = Archive(piece)
        except RefusedError as error:
            told.received.append(ReceivedBody(name=sent.name, error=problem_of(error)[1]))
            continue
        told.left_out += archive.left_out
        for entry in archive.entries:
            name = f"{sent.name}/{flattened(entry.filename, 200)}"
            with _noting(told, name), archive.open(entry) as stream:
                told.received.append(_taken(held, name, stream, who, study, patient))
    if told.received and all(one.error and one.error.code == "station_full" for one in told.received):
        raise StationFullError("the station's disk is full")
    return told


@contextlib.contextmanager
def _noting(told: ReceivedList, name: str) -> Iterator[None]:
    """Let an entry that can't be opened be an error of its own."""
    try:
        yield
    except RefusedError as error:
        told.received.append(ReceivedBody(name=name, error=problem_of(error)[1]))


def _taken(held: Station, name: str, stream: Any, who: str, study: str | None, patient: Patient) -> ReceivedBody:
    try:
        got = held.put(stream, who=who, study=study, patient=patient, then=jobs_for)
    except (StationFullError, ObjectRefusedError, RefusedError) as error:
        return ReceivedBody(name=name, error=problem_of(error)[1])
    return _body(held, name, got)


def _body(held: Station, name: str, got: Received) -> ReceivedBody:
    return ReceivedBody(
        name=name, instance=got.instance.uid, study=held.study_of(got.instance), new=got.is_new, differs=got.differs
    )


def _whose(fields: dict[str, str]) -> tuple[str | None, Patient]:
    """Where pictures belong.

    Raises:
        RefusedError: the study's UID is none.
    """
    study = fields.get("study", "").strip() or None
    if study is not None and (len(study) > 64 or not _UID.fullmatch(study)):
        raise RefusedError("a study's UID is numbers with dots between them, 64 characters at most", param="study")
    name, number = fields.get("patient_name", ""), fields.get("patient_id", "")
    return study, Patient(name, number) if name or number else NOBODY
