"""A vision tower with its projector as an `mmproj` GGUF, by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf

from ...quant.gguf_file.quantize import encode_blocks
from ...quant.onnx_graph.pad import MULTIPLE
from ...quant.recipes.gguf import ProjectorRecipe
from ...runtime.bundles.facts import TowerFacts
from ...runtime.progress import Progress, no_progress
from ..families.gemma3 import vision_config
from ..format import Projecting
from ..source.checkpoint import Checkpoint
from .write import write_projector


def write_gguf_projector(making: Projecting, recipe: ProjectorRecipe) -> TowerFacts:
    """Write tower and projector into a bundle."""
    path = f"mmproj-{making.label}-{recipe.name.upper()}.gguf"
    write_projector_file(making.checkpoint, making.writer.add(path, "projector"), recipe, making.progress)
    decisions = _padding(making.checkpoint, recipe)
    return TowerFacts(recipe.name, path, "gguf", recipe.promise.golden, decisions=decisions)


def write_projector_file(
    checkpoint: Checkpoint, out: Path, recipe: ProjectorRecipe, progress: Progress = no_progress
) -> None:
    """Write tower and projector as a recipe stores them."""
    block = gguf.GGMLQuantizationType[recipe.block] if recipe.block else None
    write_projector(
        checkpoint, out, recipe.precision, pad=block is not None, block_type=block,  # type: ignore[arg-type]
        encode=encode_blocks if block is not None else None, progress=progress,
    )  # fmt: skip


def _padding(checkpoint: Checkpoint, recipe: ProjectorRecipe) -> dict[str, Any]:
    width = vision_config(checkpoint)["intermediate_size"]
    return {"mlp_width": width, "padded_to": width + -width % MULTIPLE} if recipe.block else {}
