"""`/v1/embeddings`, in OpenAI's form, for texts and for images."""

from __future__ import annotations

import base64
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from ...encoder.encoder import Encoder
from ..models.embedding import embed_texts
from .chat_request import Given
from .images import MOST_IMAGES, image_bytes, is_data_url
from .problems import ENCODER_PROBLEMS, RefusedError
from .service import At, embed_image

router = APIRouter(tags=["OpenAI"])
MOST_TEXTS = 2048


class EmbeddingRequest(Given):
    """Texts and images to embed."""

    model: str
    input: str | list[str] = Field(description="texts, and images as data URLs, in any order")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="the model's own; nothing else is made")


class Embedding(BaseModel):
    """One input's embedding: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens that were read; an image counts none."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """Embeddings of unit length, in the inputs' order; `cut` names the texts that were too long for the model."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    cut: list[int]


@router.post("/v1/embeddings", summary="Embed texts and images", responses=ENCODER_PROBLEMS)
async def embeddings(asked: EmbeddingRequest, at: At) -> EmbeddingList:
    """Texts and images share one space: the cosine of two embeddings says how well they fit."""
    entry = at.catalogue.get(asked.model, "encoder")
    inputs = [asked.input] if isinstance(asked.input, str) else asked.input
    places = [place for place, text in enumerate(inputs) if is_data_url(text)]
    others = [place for place, text in enumerate(inputs) if not is_data_url(text)]
    if not inputs or not all(text.strip() for text in inputs):
        raise RefusedError("an input is empty", param="input")
    if len(places) > MOST_IMAGES or len(others) > MOST_TEXTS:
        raise RefusedError(f"a request takes at most {MOST_TEXTS} texts and {MOST_IMAGES} images", param="input")
    rows: dict[int, NDArray[np.float32]] = {}
    cut: list[int] = []
    tokens = 0
    if others:
        texts = [inputs[place] for place in others]
        found, shortened, tokens = await at.with_encoder(entry, lambda encoder: _texts(encoder, texts))
        rows |= dict(zip(others, found, strict=True))
        cut = [others[place] for place in shortened]
    for place in places:
        rows[place] = await embed_image(at, entry, image_bytes(inputs[place], f"input.{place}"))
    size = len(next(iter(rows.values())))
    if asked.dimensions not in (None, size):
        raise RefusedError(f"this model makes {size} numbers: leave 'dimensions' out", param="dimensions")
    data = [
        Embedding(index=place, embedding=_written(rows[place], asked.encoding_format)) for place in range(len(inputs))
    ]
    usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
    return EmbeddingList(data=data, model=entry.id, usage=usage, cut=cut)


def _texts(encoder: Encoder, texts: list[str]) -> tuple[NDArray[np.float32], list[int], int]:
    rows, cut = embed_texts(encoder, texts)
    return rows, cut, len(texts) * encoder.tokenizer.length


def _written(row: NDArray[np.float32], form: str) -> list[float] | str:
    if form == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    numbers: list[Any] = row.tolist()
    return numbers
