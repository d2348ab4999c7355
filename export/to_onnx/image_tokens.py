"""MedGemma's vision tower and projector as one module: pixels in, the tokens that the language model reads out.

What `mmproj` is for llama.cpp, this is for ONNX, where similar patches can be merged on the way. The projector averages squares
of neighbouring patches; merged ones are spread over their squares again, by what each token stands for, so that the averages
are over the same patches as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...quant.onnx_graph.apply import quantize
from ...quant.recipes.gguf import GOLDEN
from ...quant.recipes.onnx import OnnxRecipe
from ...quant.recipes.recipe import MERGED_GOLDEN, part_gates
from ...runtime.bundles.facts import TowerFacts
from ...runtime.encoder.labels import unit_length
from ...runtime.errors import CheckpointError
from ...runtime.generator.image_tower import IMAGE_FEATURES
from ..families.encoder import Signature
from ..families.gemma3 import PROFILE, image_tokens, published_name, text_config, vision_config
from ..families.token_merging import CHOSEN, MergingEncoder, largest_merge
from ..families.transformers_versions import vision_transformer
from ..format import Projecting
from ..source.checkpoint import Checkpoint
from ..source.coverage import check_covered, to_look_at
from .towers import export_tower, write_tower

SIGNATURE = Signature(("pixel_values",), (IMAGE_FEATURES,))
STEM = "vision_encoder"  # as transformers.js calls the file


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


def write_image_tokens(making: Projecting, recipe: OnnxRecipe) -> TowerFacts:
    """Write tower and projector as ONNX into a bundle."""
    checkpoint, progress, merge = making.checkpoint, making.progress, making.merge
    progress("vision tower: reading", 0, 1)
    tower, projector = load_tower(checkpoint)
    inputs = making.images.for_calibration(PROFILE, tower.config)
    if merge is None and recipe.merge_within:
        progress("vision tower: how many patches can be merged", 0, 1)
        images = making.images.for_choosing(PROFILE, tower.config.image_size, what=CHOSEN)
        if given := making.given:
            seen = to_look_at(given)
            asked = seen.in_batches(PROFILE, tower.config.image_size, len(seen))
            chosen, judged = mean_tokens(tower, projector, images), mean_tokens(tower, projector, asked)
            check_covered(chosen, judged, making.images, seen, CHOSEN)
        merge = most_merged(tower, projector, recipe, images)
    tokens = ImageTokens(tower, projector, merge or 0)
    progress("vision tower: exporting", 0, 1)
    graph = export_tower(tokens, SIGNATURE)
    progress(f"vision tower: {recipe.name}", 0, 1)
    small, decisions = quantize(graph, recipe, making.target, inputs)
    decisions |= tokens.encoder.facts()
    golden = MERGED_GOLDEN if merge else GOLDEN
    return write_tower(making.writer, "projector", STEM, recipe, small, decisions, SIGNATURE, golden)


@torch.inference_mode()
def mean_tokens(tower: Any, projector: Any, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """What images look like to the model, (N, width) of unit length: the mean of the tokens that it reads out."""
    model = ImageTokens(tower, projector, 0)
    return unit_length(np.concatenate([model(torch.from_numpy(batch)).mean(dim=1).numpy() for batch in inputs]))


def most_merged(tower: Any, projector: Any, recipe: OnnxRecipe, inputs: Sequence[NDArray[np.float32]]) -> int:
    """The most patches a block may merge so that the tokens of these images stay within the recipe's gates."""

    @torch.inference_mode()
    def embed(merged: int) -> Iterator[NDArray[np.float32]]:
        model = ImageTokens(tower, projector, merged)
        for batch in inputs:
            yield model(torch.from_numpy(batch)).flatten(0, 1).numpy()

    # The worst of thousands of tokens are a matter of luck, and quantization takes its part: half of what its gate allows.
    gates = [
        replace(gate, bound=(1 + gate.bound) / 2) if gate.figure.endswith((".min", ".p01")) else gate
        for gate in part_gates("projector", recipe)
    ]
    # An image has many tokens that are nearly one another: centred on its neighbours, nothing would be left of a token.
    return largest_merge(embed, tower, gates, neighbours=0)
