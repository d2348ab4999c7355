"""`/v1/instances`: an object as it came, as a picture, and with what the encoder looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from ....encoder.encoder import Encoder
from ....pictures.preprocess import Pixels
from ....pictures.view import View
from ...models.catalogue import Entry
from ...reading.pictures import as_png, picture_of
from ...station import Station
from ...store.records import Instance
from ..problems import RefusedError
from ..service import At, Held
from ..who import Viewer
from .bodies import UNKNOWN, Uid, instance_of

router = APIRouter(tags=["studies"])
Frame = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="from 0; the middle one where left out")]
Window = Annotated[
    str | None,
    Query(max_length=60, description="of a grey DICOM: centre,width or abdomen, bone, brain, lung, mediastinum"),
]
_PIECE = 1 << 18
_NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z.-]")
_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get(
    "/v1/instances/{uid}/picture", summary="An object as a picture", response_class=Response, responses=UNKNOWN | _PNG
)
async def picture(
    at: At, held: Held, user: Viewer, uid: Uid, frame: Frame = None, window: Window = None,
    side: Annotated[int | None, Query(ge=16, le=8192, description="pixels of the longer side at most")] = None,
) -> Response:  # fmt: skip
    """A PNG of one frame."""
    found, view = instance_of(held, uid), View.of(frame, window)
    return Response(await at.aside(_picture, held, found, view, side), media_type="image/png")


def _picture(held: Station, instance: Instance, view: View, side: int | None) -> bytes:
    return as_png(picture_of(held, instance, view), side)


@router.get(
    "/v1/instances/{uid}/object", summary="An object as it came", response_class=StreamingResponse,
    responses=UNKNOWN | _BYTES,
)  # fmt: skip
def content(held: Held, user: Viewer, uid: Uid) -> StreamingResponse:
    """Its bytes: a DICOM file or a picture."""
    found = instance_of(held, uid)
    suffix, kind = ("dcm", "application/dicom") if found.kind == "dicom" else (found.kind, f"image/{found.kind}")
    name = _NOT_IN_NAMES.sub("_", found.uid)
    headers = {"Content-Disposition": f'attachment; filename="{name}.{suffix}"', "Content-Length": str(found.bytes)}
    return StreamingResponse(_pieces(held.read(found)), media_type=kind, headers=headers)


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while piece := stream.read(_PIECE):
            yield piece


@router.get(
    "/v1/instances/{uid}/map", summary="Where the encoder saw it", response_class=Response, responses=UNKNOWN | _PNG
)
async def where(
    at: At, held: Held, user: Viewer, uid: Uid, frame: Frame = None,
    label: Annotated[
        str | None, Query(min_length=1, max_length=200, description="the bundle's own, or any text; its best where left out")
    ] = None,
) -> Response:  # fmt: skip
    """A PNG of the frame in grey with orange where a patch speaks for the label, blue where against. Needs a bundle that was
    exported with --maps; it is no segmentation and no proof."""
    found, entry = instance_of(held, uid), at.catalogue.get(None, "encoder")
    pixels = await at.aside(picture_of, held, found, View(frame))
    return Response(
        await at.with_encoder(entry, partial(_map, entry=entry, pixels=pixels, label=label)), media_type="image/png"
    )


def _map(encoder: Encoder, entry: Entry, pixels: Pixels, label: str | None) -> bytes:
    if not encoder.towers["vision"].map_output:
        raise RefusedError(
            f"the bundle {entry.id} can't make maps; export it again with --maps", status=404, code="no_maps"
        )
    bank = encoder.label_bank
    own = bank is not None and label in (None, *bank.names)
    if bank is None and label is None:
        raise RefusedError("the bundle has no labels of its own; name one", param="label")
    found = encoder.map(pixels, None if own else label)
    return as_png(found.overlay(label if own else None))
