"""`/v1/search`: what of the clinic's own pictures is like a picture, or fits a text."""

from __future__ import annotations

from functools import partial

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from ....encoder.encoder import Encoder
from ...models.catalogue import Entry
from ...models.embedding import embed_texts
from ...reading.choice import Frame, evenly
from ...reading.judging import Judge
from ...station import Station
from ...store import embeddings
from ...store.embeddings import Near
from ..chat_request import Given
from ..images import image_bytes
from ..problems import RefusedError
from ..service import At, Held, embed_image
from ..who import Viewer
from .bodies import UNKNOWN, instance_of

router = APIRouter(tags=["studies"])


class SearchRequest(Given):
    """One of an instance of the station, an image, and a text."""

    instance: str | None = Field(None, min_length=1, max_length=128, description="a UID; it is not among what is found")
    image: str | None = Field(None, description="a data URL, or base64 of a file")
    text: str | None = Field(None, min_length=1, max_length=2000)
    count: int = Field(10, ge=1, le=200)


class FoundBody(BaseModel):
    """A picture that is like it: the cosine of their embeddings, by the frame that is the nearest."""

    instance: str
    study: str
    frame: int
    similarity: float


class FoundList(BaseModel):
    """The nearest first."""

    found: list[FoundBody]


@router.post("/v1/search", summary="Similar pictures of this clinic", responses=UNKNOWN)
async def search(at: At, held: Held, user: Viewer, asked: SearchRequest) -> FoundList:
    """Over every picture that the station has judged with its encoder."""
    if sum(one is not None for one in (asked.instance, asked.image, asked.text)) != 1:
        raise RefusedError("give one of 'instance', 'image' and 'text'")
    entry = at.catalogue.get(None, "encoder")
    if asked.instance is not None:
        row = await at.aside(_of_instance, at.judge, held, entry, asked.instance)
    elif asked.image is not None:
        row = await embed_image(at, entry, image_bytes(asked.image, "image"))
    else:
        text = asked.text or ""
        row = await at.with_encoder(entry, lambda encoder: embed_texts(encoder, [text])[0][0])
    near = await at.with_encoder(
        entry, partial(_nearest, held=held, row=row, count=asked.count, without=asked.instance or "")
    )
    return FoundList(
        found=[
            FoundBody(instance=one.instance, study=one.study, frame=one.frame, similarity=one.similarity)
            for one in near
        ]
    )


def _of_instance(judge: Judge, held: Station, entry: Entry, uid: str) -> NDArray[np.float32]:
    instance = instance_of(held, uid)
    return judge.embedding(entry, Frame(instance, evenly(instance.frames, 1)[0]))


def _nearest(encoder: Encoder, *, held: Station, row: NDArray[np.float32], count: int, without: str) -> list[Near]:
    with held.database.read() as connection:
        return embeddings.nearest(connection, row, encoder.fingerprint, count, without=without)
