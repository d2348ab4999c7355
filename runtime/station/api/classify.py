"""`/v1/classify`: images against labels."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from ...encoder.encoder import Encoder
from ...encoder.labels import LabelBank, as_prompts
from ...errors import ImageError
from ...pictures.view import View
from ..models.embedding import embed_texts
from ..reading.judging import told
from .chat_request import Given
from .images import MOST_IMAGES, image_bytes
from .problems import ENCODER_PROBLEMS, Problem, RefusedError, problem_of
from .service import At, embed_image

router = APIRouter(tags=["medge"])
MOST_PROMPTS = 2048


class ClassifyRequest(Given):
    """Images and the labels to score them against."""

    model: str | None = Field(None, description="an encoder; the station's own where left out")
    images: list[str] = Field(min_length=1, max_length=MOST_IMAGES, description="data URLs, or base64 of files")
    labels: list[str] | dict[str, list[str]] | None = Field(
        None, description="labels, or {label: prompts}; the bundle's own where left out"
    )
    frame: int | None = Field(None, ge=0, le=100_000, description="of a multi-frame file, from 0; the middle one else")
    window: str | None = Field(
        None, max_length=60, description="of a grey DICOM: centre,width or abdomen, bone, brain, lung, mediastinum"
    )


class Result(BaseModel):
    """One image: its labels, likeliest first, and what calibrated scores say of it; or why it can't be read."""

    labels: list[dict[str, Any]] | None = None
    decision: dict[str, Any] | None = None
    note: str | None = None
    error: Problem | None = None


class Classified(BaseModel):
    """A result for each image, in order, and which bundle made them."""

    model: str
    parity: str
    recipes: dict[str, str]
    calibrated: bool
    results: list[Result]


@router.post("/v1/classify", summary="Score images against labels", responses=ENCODER_PROBLEMS)
async def classify(asked: ClassifyRequest, at: At) -> Classified:
    """Softmax says which of the labels it is, sigmoid whether one holds. An image that can't be read is an error of its own."""
    entry = at.catalogue.get(asked.model, "encoder")
    view = View.of(asked.frame, asked.window)
    bank, calibrated = await at.with_encoder(entry, lambda encoder: _bank(encoder, asked.labels))
    results: list[Result] = []
    for place, text in enumerate(asked.images):
        try:
            row = await embed_image(at, entry, image_bytes(text, f"images.{place}"), view)
        except (ImageError, RefusedError) as error:
            results.append(Result(error=problem_of(error)[1]))
            continue
        [found] = await at.with_encoder(entry, partial(Encoder.score, embeddings=row[None], bank=bank))
        results.append(Result(**told(found)))
    return Classified(
        model=entry.id, parity=entry.parity, recipes=entry.recipes, calibrated=calibrated, results=results
    )


def _bank(encoder: Encoder, labels: list[str] | dict[str, list[str]] | None) -> tuple[LabelBank, bool]:
    """The labels' embeddings, and whether their scores are calibrated."""
    if labels is None:
        bank = encoder.bank()
        return bank, encoder.calibrated(bank)
    prompts = as_prompts(labels)
    if sum(map(len, prompts.values())) > MOST_PROMPTS:
        raise RefusedError(f"a request takes at most {MOST_PROMPTS} prompts", param="labels")
    bank = LabelBank.build(prompts, lambda texts: embed_texts(encoder, list(texts))[0])
    return bank, encoder.calibrated(bank)
