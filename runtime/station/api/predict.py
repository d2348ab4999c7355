"""`/predict`, in the form of Google's MedSigLIP service (github.com/google-health/medsiglip, python/serving)."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json

from ...encoder.encoder import Encoder
from ...errors import ImageError, MedgeError, one_line
from ...pictures.images import read_image
from ...pictures.view import View
from ..models.catalogue import Entry
from ..models.embedding import embed_pixels, embed_texts
from .images import image_bytes
from .problems import RefusedError, problem_of
from .service import At, Service

router = APIRouter(tags=["Google"])
MOST_EMBEDDINGS = 3000  # of a request, as the published service
FIELD, PATCHES, STORE, IMAGE = (
    "INVALID_REQUEST_FIELD_ERROR", "TOO_MANY_PATCHES_ERROR", "UNAPPROVED_DICOM_STORE_ERROR", "IMAGE_ERROR",
)  # fmt: skip


class Strict(BaseModel):
    """As in the published schema, a field that is not named is refused."""

    model_config = ConfigDict(extra="forbid")


class Patch(Strict):
    """A rectangle of an image, in pixels; of the model's own size where its size is left out."""

    x_origin: int = Field(ge=0, le=1_000_000)
    y_origin: int = Field(ge=0, le=1_000_000)
    width: int | None = Field(None, ge=1, le=1_000_000)
    height: int | None = Field(None, ge=1, le=1_000_000)


class Window(Strict):
    """How a grey DICOM is looked at, in its rescaled units."""

    center: int = Field(ge=-1_000_000, le=1_000_000)
    width: int = Field(ge=1, le=1_000_000)


class PredictImage(Strict):
    """An image; of its four sources, this station takes `input_bytes`."""

    input_bytes: str | None = Field(None, description="base64 of a file")
    dicomweb_uri: str | None = None
    gcs_uri: str | None = None
    image_url: str | None = None
    access_credential: str | None = None
    patch_coordinates_list: list[Patch] | None = Field(None, min_length=1)
    radiology_dicom_window_level: Window | None = None
    extensions: dict[str, Any] | None = Field(None, description="may hold radiology_dicom_window_level, too")


class Instance(Strict):
    """A text or an image."""

    text: str | None = None
    image: PredictImage | None = None


class PredictRequest(Strict):
    """Texts and images to embed; one that is wrong is an error of its own."""

    instances: list[Instance]


REFERENCE = "#/components/schemas/PredictRequest"


def schemas() -> dict[str, Any]:
    """The request's schemas, for the OpenAPI document: each instance is read by itself, so the route declares no body."""
    _, found = models_json_schema([(PredictRequest, "validation")], ref_template="#/components/schemas/{model}")
    return dict(found["$defs"])


class PredictError(BaseModel):
    """Why an instance has no embedding."""

    code: str
    description: str


class Prediction(BaseModel):
    """One instance: its embedding, those of its patches, or its error. logit = model_temperature * cosine + model_bias."""

    embedding: list[float] | None = None
    patch_embeddings: list[dict[str, Any]] | None = None
    input_type: str | None = None
    model_temperature: float | None = None
    model_bias: float | None = None
    error: PredictError | None = None


class Predictions(BaseModel):
    """A prediction for each instance, in order."""

    predictions: list[Prediction]


@router.post(
    "/predict",
    summary="Embed texts and images, as Google's MedSigLIP service",
    response_model=Predictions,
    response_model_exclude_none=True,
    responses={400: {"description": "The request holds no list of instances", "model": dict[str, str]}},
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": {"$ref": REFERENCE}}}, "required": True}},
)
async def predict(request: Request, at: At) -> Any:
    """`dicomweb_uri`, `gcs_uri` and `image_url` are refused: the station fetches nothing."""
    try:
        given = from_json(await request.body(), allow_inf_nan=False)
    except ValueError:
        given = None
    instances = given.get("instances") if isinstance(given, dict) else None
    if not isinstance(instances, list):
        return JSONResponse({"error": FIELD}, 400)
    entry = at.catalogue.get(None, "encoder")
    left = MOST_EMBEDDINGS
    predictions: list[Prediction] = []
    for one in instances:
        try:
            instance = Instance.model_validate(one)
            left -= len(instance.image.patch_coordinates_list or [0]) if instance.image else 1
            predictions.append(await _predict(at, entry, instance, left))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            predictions.append(_failed(FIELD, f"{place}: {first['msg']}" if place else first["msg"]))
        except RefusedError as error:
            predictions.append(_failed(error.code if error.code in (PATCHES, STORE) else FIELD, str(error)))
        except ImageError as error:
            predictions.append(_failed(IMAGE, str(error)))
        except MedgeError as error:
            if problem_of(error)[0] >= 500:  # memory, say: the next instance would fail likewise
                raise
            predictions.append(_failed(FIELD, str(error)))
    return Predictions(predictions=predictions)


def _failed(code: str, words: str) -> Prediction:
    return Prediction(error=PredictError(code=code, description=one_line(words, 1024)))


async def _predict(at: Service, entry: Entry, instance: Instance, left: int) -> Prediction:
    if left < 0:
        raise RefusedError(f"a request takes at most {MOST_EMBEDDINGS} embeddings", code=PATCHES)
    if (instance.text is None) == (instance.image is None):
        raise RefusedError("an instance has either a text or an image")
    if instance.image is None:
        text = instance.text or ""
        row, scale, bias = await at.with_encoder(
            entry, lambda encoder: (embed_texts(encoder, [text])[0][0], *_facts(encoder))
        )
        return Prediction(embedding=row.tolist(), input_type="text", model_temperature=scale, model_bias=bias)
    image, patches = instance.image, instance.image.patch_coordinates_list
    content, view = _content(image), _view(image)
    rows, scale, bias = await at.with_encoder(
        entry, lambda encoder: (_embed(encoder, content, view, patches), *_facts(encoder))
    )
    at.metrics.images.inc(len(rows))
    if patches is None:
        return Prediction(embedding=rows[0].tolist(), input_type="image", model_temperature=scale, model_bias=bias)
    size = entry.image_size
    told = [
        {"embedding": row.tolist(), "patch_coordinate": {"x_origin": one.x_origin, "y_origin": one.y_origin,
                                                         "width": one.width or size, "height": one.height or size}}
        for row, one in zip(rows, patches, strict=True)
    ]  # fmt: skip
    return Prediction(patch_embeddings=told, input_type="image", model_temperature=scale, model_bias=bias)


def _facts(encoder: Encoder) -> tuple[float, float]:
    return encoder.facts.logit_scale, encoder.facts.logit_bias


def _content(image: PredictImage) -> bytes:
    if image.dicomweb_uri is not None:
        raise RefusedError("this station reads no DICOMweb store yet: send the file as input_bytes", code=STORE)
    if image.gcs_uri is not None or image.image_url is not None:
        raise RefusedError("the station fetches nothing: send the file as input_bytes")
    if image.input_bytes is None:
        raise RefusedError("an image needs input_bytes")
    return image_bytes(image.input_bytes, "input_bytes")


def _view(image: PredictImage) -> View:
    window = image.radiology_dicom_window_level
    if window is None and image.extensions is not None:
        given = image.extensions.get("radiology_dicom_window_level")
        window = None if given is None else Window.model_validate(given)
    return View() if window is None else View(window=(window.center, window.width))


def _embed(encoder: Encoder, content: bytes, view: View, patches: list[Patch] | None) -> list[NDArray[np.float32]]:
    pixels = read_image(content, view)
    if patches is None:
        return [embed_pixels(encoder, pixels)]
    height, width = pixels.shape[:2]
    size = encoder.facts.image_size
    rows = []
    for one in patches:
        right, bottom = one.x_origin + (one.width or size), one.y_origin + (one.height or size)
        if right > width or bottom > height:
            raise ImageError(f"a patch lies outside of the image, which has {width} x {height} pixels")
        rows.append(embed_pixels(encoder, pixels[one.y_origin : bottom, one.x_origin : right]))
    return rows
