"""The formats that medge writes: a line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...runtime.bundles.facts import TowerFacts
from ..format import Format, Projecting
from ..to_coreml.format import FORMAT as COREML
from ..to_gguf.projector import write_gguf_projector
from ..to_litert.format import FORMAT as LITERT
from ..to_onnx.format import FORMAT as ONNX
from ..to_onnx.image_tokens import write_image_tokens

FORMATS: dict[str, Format] = {form.name: form for form in (ONNX, COREML, LITERT)}


# A language model's vision tower with its projector: {format of the recipe: what writes it}.
PROJECTORS: dict[str, Callable[[Projecting, Any], TowerFacts]] = {
    "gguf": write_gguf_projector, "onnx": write_image_tokens,
}  # fmt: skip
