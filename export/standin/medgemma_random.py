"""A full-size MedGemma 4B with random weights: for size, speed and memory only."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from ...runtime.bundles.atomic import atomic_folder
from ..families.gemma3 import published_name
from ..source.shard_writer import ShardWriter
from .gemma_270m import IMAGE_TOKEN_ID, assemble, read_pieces, write_tokenizer
from .medgemma_mini import CHAT_TEMPLATE, CONFIG, write_configuration
from .write import FULL_CONFIG

# As google/medgemma-4b-it's config.json states it; what it leaves to transformers' defaults is left out here, too.
CONFIG_4B: dict[str, Any] = {
    **CONFIG,
    "text_config": {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    },
    "vision_config": {**FULL_CONFIG["vision_config"], "image_size": 896, "vision_use_head": False},
    "mm_tokens_per_image": 256,
    "image_token_index": IMAGE_TOKEN_ID,
}  # fmt: skip


def write_medgemma_4b_random(out: Path, *, force: bool = False, seed: int = 0, layers: int = 34) -> None:
    """Write the checkpoint, 8.6 GB in bf16, shard by shard; with fewer `layers`, for who looks at the vision tower only.

    Matrices are normal with deviation 1/sqrt(fan in), and norms one, so that activations stay in range.
    """
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    config = {**CONFIG_4B, "text_config": {**CONFIG_4B["text_config"], "num_hidden_layers": layers}}
    with torch.device("meta"):
        model = Gemma3ForConditionalGeneration(Gemma3Config(**config))
        shapes = {published_name(name): tensor.shape for name, tensor in model.state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    with atomic_folder(out, force=force) as folder, tempfile.TemporaryDirectory(dir=folder) as scratch:
        source = assemble(Path(scratch))
        write_configuration(folder, config)
        write_tokenizer(read_pieces(source), folder, CHAT_TEMPLATE)
        with ShardWriter(folder) as shards:
            for name, shape in shapes.items():
                if name.endswith(("position_ids", "lm_head.weight")) or ".vision_model.head." in name:
                    continue
                if "norm" in name:
                    # SigLIP's LayerNorm weights are ones; Gemma's RMSNorm weights are published minus one.
                    one = name.startswith("vision_tower.") and name.endswith("weight")
                    tensor = torch.full(shape, 1.0 if one else 0.0, dtype=torch.bfloat16)
                elif name.endswith("bias"):
                    tensor = torch.zeros(shape, dtype=torch.bfloat16)
                else:
                    # The projector's matrix is stored (in, out), all others (out, in, ...).
                    fan_in = shape[0] if "projection_weight" in name else math.prod(shape[1:])
                    tensor = torch.empty(shape, dtype=torch.bfloat16).normal_(0, fan_in**-0.5, generator=generator)
                shards.add(name, tensor)
