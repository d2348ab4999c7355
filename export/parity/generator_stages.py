"""A language model's parts on both sides, stage by stage."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...quant.onnx_graph.graph import Graph
from ...runtime.bundles.figures import StageRow
from ...runtime.device.ggml import GGMLTensor
from ...runtime.generator.engine import BATCH, Engine
from ...runtime.generator.image_tower import IMAGE_FEATURES
from ...runtime.generator.prompt import Item, Picture
from ...runtime.pictures.preprocess import normalise_pixels
from ..families.transformers_versions import vision_transformer
from ..to_onnx.image_tokens import SIGNATURE, ImageTokens
from ..to_onnx.stages import run_stages, stage_labels
from ..to_onnx.towers import export_tower
from .divergence import CachedLogits
from .stages import one_hop, two_hops

PROJECTED = "projected tokens"
Array = NDArray[Any]


def llama_stages(
    language: Path, projector: Path | None, items: Sequence[Item], logits: CachedLogits
) -> tuple[StageRow, ...]:
    """Relative error of every block's output, by llama.cpp's callback on one side and hooks on the other."""
    reference = logits.reference
    exact = reference.stages(items)
    found: dict[str, Array] = {}

    def observe(address: int, ask: bool) -> bool:
        node = GGMLTensor.from_address(address)
        name = node.name.decode("utf-8", "replace")
        if name in exact and not ask and node.data:
            width, rows = node.ne[0], node.ne[1] * node.ne[2] * node.ne[3]
            buffer = (ctypes.c_float * (width * rows)).from_address(node.data)
            found.setdefault(name, np.ctypeslib.as_array(buffer).reshape(rows, width).copy())
        return name in exact

    # All in one batch and with every output, so that the last block is not cut down to the rows that are asked for.
    with Engine(language, projector, context=BATCH, measuring=True, observer=observe) as engine:
        rows = engine.logits(items)
        if projector is None:
            pairs = {"logits": (logits(items), rows)}
        else:
            pictures = [item for item in items if isinstance(item, Picture)]
            ours = np.concatenate([engine.image_embedding(picture) for picture in pictures])
            pairs = {PROJECTED: (np.concatenate([reference.image_embedding(p) for p in pictures]), ours)}
    blocks = [name for name in exact if name.startswith("layer_out" if projector else "l_out")]
    wanted = ["pos_embed", *blocks, "norm_b"] if projector else blocks
    stages = {_stage_label(name): (exact[name], found[name]) for name in wanted} | pairs
    return tuple(one_hop(label, theirs, ours) for label, (theirs, ours) in stages.items())


def onnx_stages(_: Path, path: Path, items: Sequence[Item], logits: CachedLogits) -> tuple[StageRow, ...]:
    """Relative error after each part of an ONNX tower: of the exporter, and of what was made smaller or merged."""
    reference, pictures = logits.reference, [item for item in items if isinstance(item, Picture)]
    pixels = np.stack([normalise_pixels(picture.pixels) for picture in pictures])
    model = reference.model.model
    tower = vision_transformer(model.vision_tower)
    graph = export_tower(ImageTokens(tower, model.multi_modal_projector, 0), SIGNATURE)
    labels = stage_labels(graph) | {IMAGE_FEATURES: PROJECTED}
    full, small = run_stages(graph, labels, pixels), run_stages(Graph.load(path), labels, pixels)
    stages = reference.stages(items)
    exact = {_stage_label(name): stages[name] for name in stages if not name.startswith("l_out")}
    exact[PROJECTED] = np.stack([reference.image_embedding(picture) for picture in pictures])
    return two_hops({label: exact[label].reshape(full[label].shape) for label in full}, full, small)


VISION_STAGES: dict[str, Callable[[Path, Path, Sequence[Item], CachedLogits], tuple[StageRow, ...]]] = {
    "gguf": llama_stages, "onnx": onnx_stages,
}  # fmt: skip


def _stage_label(name: str) -> str:
    """What a person calls the place that llama.cpp names so."""
    known = {"pos_embed": "patch embedding", "norm_b": "tower output"}
    return known.get(name, name.replace("layer_out-", "block ").replace("l_out-", "block "))
