"""DICOMweb: objects are stored by STOW-RS (PS3.18 section 10.5)."""

from __future__ import annotations

from typing import Any, BinaryIO

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ....errors import StationError, StationFullError
from ...dicom.parts import Parts
from ...dicom.taking import FULL, REFUSED, STORED, Expected, Taken, take
from ...reading.intake import jobs_for
from ..problems import ProblemBody, RefusedError
from ..service import At, Held
from ..who import Reader
from .multipart import larger

router = APIRouter(tags=["DICOMweb"])
_TYPE = "application/dicom"
_JSON = "application/dicom+json"
_LONGEST_UID = 64
# What the answer holds: by tag, as DICOM's JSON names attributes.
_CLASS, _INSTANCE, _REASON = "00081150", "00081155", "00081197"
_STORED, _FAILED, _OTHERS = "00081199", "00081198", "0008119A"
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/related": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "All objects are stored.", "content": {_JSON: {}}},
    202: {"description": "Some are; the others are named with the reason.", "content": {_JSON: {}}},
    409: {"description": "None is.", "content": {_JSON: {}}},
    **{status: {"model": ProblemBody} for status in (400, 403, 404, 503)},
    415: {"description": "The body is no multipart/related of DICOM files."},
    507: {"description": "The disk is full.", "content": {_JSON: {}}},
}


@router.post("/dicomweb/studies", summary="Store objects (STOW-RS)", responses=_ANSWERS, openapi_extra=_BODY)
async def store(request: Request, at: At, held: Held, user: Reader) -> JSONResponse:
    """DICOM files as parts of a multipart/related body, each stored before the answer; which are, it says in DICOM's JSON."""
    return await _store(request, at, held, user.name, "")


@router.post(
    "/dicomweb/studies/{study}", summary="Store objects of a study (STOW-RS)", responses=_ANSWERS, openapi_extra=_BODY
)
async def store_in_study(study: str, request: Request, at: At, held: Held, user: Reader) -> JSONResponse:
    """As without the study; objects of another study are refused."""
    if len(study) > _LONGEST_UID or not study.replace(".", "").isdigit() or not study.isascii():
        raise RefusedError("the study in the address is no UID", param="study")
    return await _store(request, at, held, user.name, study)


async def _store(request: Request, at: At, held: Held, who: str, study: str) -> JSONResponse:
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/related"):
        raise HTTPException(415, 'send DICOM files as multipart/related; type="application/dicom"')
    found: list[Taken] = []

    def taken(part_kind: str, part: BinaryIO) -> Taken:
        if part_kind and part_kind != _TYPE:
            return Taken(REFUSED, "a part is no DICOM file")
        return take(held, part, who=who, expected=Expected(study=study), then=jobs_for)

    try:
        with Parts(kind, held.folder / "arriving") as parts:
            if parts.type not in ("", _TYPE):
                raise HTTPException(415, "the station stores application/dicom only")
            async for piece in larger(request.stream()):
                await at.aside(parts.feed, piece)
                for part in parts.complete():
                    found.append(await at.aside(taken, *part))
            parts.finish()
    except StationFullError as error:
        found.append(Taken(FULL, str(error)))
    except StationError as error:
        raise RefusedError(str(error)) from error
    if not found:
        raise RefusedError("the body holds no object")
    return JSONResponse(answer(found), _status(found), media_type=_JSON)


def _status(found: list[Taken]) -> int:
    """PS3.18 table 10.5.3-1, and 507 where the disk is why."""
    failed = [one for one in found if one.status != STORED]
    if not failed:
        return 200
    if len(failed) < len(found):
        return 202
    return 507 if any(one.status == FULL for one in failed) else 409


def answer(found: list[Taken]) -> dict[str, Any]:
    """What became of objects, in DICOM's JSON (PS3.18 section 10.5.3)."""
    stored: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for one in found:
        reason = {_REASON: {"vr": "US", "Value": [one.status]}}
        named = {}
        if one.uid:
            named = {_CLASS: {"vr": "UI", "Value": [one.sop_class]}, _INSTANCE: {"vr": "UI", "Value": [one.uid]}}
        if one.status == STORED:
            stored.append(named)
        elif named:
            failed.append(named | reason)
        else:
            others.append(reason)
    lists = {_STORED: stored, _FAILED: failed, _OTHERS: others}
    return {tag: {"vr": "SQ", "Value": items} for tag, items in lists.items() if items}
