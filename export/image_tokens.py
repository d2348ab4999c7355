"""MedGemma's vision tower and projector as one module: pixels in, the tokens that the language model reads out.

What `mmproj` is for llama.cpp, this is for ONNX, where similar patches can be merged on the way. The projector averages squares
of neighbouring patches; merged ones are spread over their squares again, by what each token stands for, so that the averages
are over the same patches as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..quant.apply import quantize
from ..quant.recipe import Recipe
from ..runtime.bundle import BundleWriter
from ..runtime.cpu import Target
from ..runtime.errors import CheckpointError
from ..runtime.gates import PROJECTOR_GATES
from ..runtime.manifest import TowerFacts
from .checkpoint import Checkpoint
from .to_gguf import image_tokens, published_name, text_config, vision_config
from .to_onnx import export_tower, write_tower
from .token_merging import MergingEncoder, largest_merge
from .transformers_versions import vision_transformer

STEM = "vision_encoder"  # as transformers.js calls the file
Progress = Callable[[str, int, int], None]


class ImageTokens(nn.Module):
    """A tower and projector that merge `merged` patches in each block; they share the originals' weights.

    Args:
        tower: a `SiglipVisionTransformer`.
        projector: a `Gemma3MultiModalProjector`.

    Raises:
        RecipeError: as `MergingEncoder`.
    """

    cells: torch.Tensor

    def __init__(self, tower: Any, projector: Any, merged: int) -> None:
        super().__init__()
        self.config = tower.config
        self.embeddings, self.encoder = tower.embeddings, MergingEncoder(tower, merged)
        self.post_layernorm, self.projector = tower.post_layernorm, projector
        self.tokens = self.encoder.tokens
        self.register_buffer("cells", squares(projector.patches_per_image, projector.kernel_size)[None])
        self.eval()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, side, side) to (B, image tokens, width of the language model)."""
        x = self.embeddings(pixel_values)
        x, size = self.encoder(x, self.cells.expand(x.shape[0], -1, -1))
        pooled = size.transpose(1, 2) @ self.post_layernorm(x) / self.projector.kernel_size**2
        return self.projector.mm_soft_emb_norm(pooled) @ self.projector.mm_input_projection_weight


def squares(side: int, width: int) -> torch.Tensor:
    """Which square of `width` x `width` patches each of `side` x `side` patches lies in, (patches, squares), ones and zeros."""
    line = torch.arange(side) // width
    return nn.functional.one_hot(line[:, None] * (side // width) + line[None]).flatten(0, 1).float()


def load_tower(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """Tower and projector of a multimodal Gemma 3 in float32; the language model, ten times as large, is not read.

    Raises:
        CheckpointError: the model is text-only, or a tensor is missing.
    """
    from transformers import Gemma3Config, SiglipVisionConfig, SiglipVisionModel
    from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector

    vision = SiglipVisionConfig(**{**vision_config(checkpoint), "vision_use_head": False})
    config = Gemma3Config(
        text_config=text_config(checkpoint), vision_config=vision, mm_tokens_per_image=image_tokens(checkpoint)
    )
    modules = {
        "vision_tower.vision_model": vision_transformer(SiglipVisionModel._from_config(config.vision_config)),
        "multi_modal_projector": Gemma3MultiModalProjector(config),
    }
    names = {published_name(name): name for name in checkpoint.shards}
    for part, module in modules.items():
        prefix = f"{part}."
        state = {
            name.removeprefix(prefix): checkpoint.tensor(source).float()
            for name, source in names.items()
            if name.startswith(prefix)
        }
        missing = module.load_state_dict(state, strict=False).missing_keys
        if missing:
            raise CheckpointError(f"{checkpoint.folder}: the weights lack {prefix}{missing[0]}")
        module.eval()
    tower, projector = modules.values()
    return tower, projector


def write_image_tokens(
    checkpoint: Checkpoint, writer: BundleWriter, recipe: Recipe, target: Target, inputs: Sequence[NDArray[np.float32]],
    *, merge: int | None = None, progress: Progress = lambda *_: None,
) -> TowerFacts:  # fmt: skip
    """Write tower and projector as ONNX into a bundle.

    Args:
        checkpoint: a multimodal Gemma 3.
        writer: of the bundle.
        recipe: what to make of them.
        target: the CPU whose kernels decide the 8-bit format.
        inputs: calibration images, (1, 3, side, side) each.
        merge: patches that each block merges; where None, as many as the recipe's gate allows, or none.
    """
    progress("vision tower: reading", 0, 1)
    tower, projector = load_tower(checkpoint)
    if merge is None and recipe.merge_within:
        progress("vision tower: how many patches can be merged", 0, 1)
        merge = most_merged(tower, projector, recipe, inputs)
    tokens = ImageTokens(tower, projector, merge or 0)
    progress("vision tower: exporting", 0, 1)
    graph = export_tower(tokens, "image_tokens")
    progress(f"vision tower: {recipe.name}", 0, 1)
    small, decisions = quantize(graph, recipe, target, inputs)
    return write_tower(writer, "projector", STEM, recipe, small, decisions | tokens.encoder.facts())


def most_merged(tower: Any, projector: Any, recipe: Recipe, inputs: Sequence[NDArray[np.float32]]) -> int:
    """The most patches a block may merge so that the tokens of these images stay within the recipe's gates."""

    @torch.inference_mode()
    def embed(merged: int) -> NDArray[np.float32]:
        model = ImageTokens(tower, projector, merged)
        return np.concatenate([model(torch.from_numpy(batch)).flatten(0, 1).numpy() for batch in inputs])

    # The least of thousands of tokens is a matter of luck, and quantization takes its part: half of what its gate allows.
    gates = [
        replace(gate, bound=(1 + gate.bound) / 2) if gate.figure.endswith(".min") else gate
        for gate in PROJECTOR_GATES[recipe.merge_within]
    ]
    # An image has many tokens that are nearly one another: centred on its neighbours, nothing would be left of a token.
    return largest_merge(embed, tower, gates, neighbours=0)
