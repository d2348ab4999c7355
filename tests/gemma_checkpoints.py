"""Small Gemma 3 checkpoints with random weights, laid out as published ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from medge.export.standin.medgemma_mini import write_configuration
from medge.export.standin.shards import ShardWriter

TOKENIZER = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
)
TEXT: dict[str, Any] = {
    "model_type": "gemma3_text", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 64,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
}  # fmt: skip
VISION: dict[str, Any] = {
    "model_type": "siglip_vision_model", "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip


def write_tiny_gemma(
    folder: Path, tokenizer_of: Path, *, sees: bool = True, text: dict[str, Any] | None = None,
    rename: tuple[str, str] = ("", ""), shard_bytes: int = 1 << 20,
) -> None:  # fmt: skip
    """Write one.

    Args:
        folder: where to.
        tokenizer_of: a checkpoint with Gemma's tokenizer files.
        sees: with a vision tower.
        text: changes to the language model's configuration.
        rename: replaced in every tensor's name, as other versions of transformers write them.
        shard_bytes: of a weights file.
    """
    from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Gemma3TextConfig

    folder.mkdir()
    for name in TOKENIZER:
        shutil.copy(tokenizer_of / name, folder / name)
    language = {**TEXT, **(text or {})}
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "transformers_version": "4.50.0",
        "text_config": language, "vision_config": VISION, "mm_tokens_per_image": 4, "image_token_index": 262_144,
        "boi_token_index": 255_999, "eoi_token_index": 256_000, "eos_token_id": [1, 106],
    }  # fmt: skip
    torch.manual_seed(0)
    if sees:
        model = Gemma3ForConditionalGeneration(Gemma3Config(**config))
    else:
        model = Gemma3ForCausalLM(Gemma3TextConfig(**language))
        config = {**language, "architectures": ["Gemma3ForCausalLM"], "eos_token_id": [1, 106],
                  "mm_tokens_per_image": 4, "vision_config": VISION, "transformers_version": "4.50.0"}  # fmt: skip
    write_configuration(folder, config)
    if not sees:
        config.pop("vision_config")
        config.pop("mm_tokens_per_image")
        (folder / "config.json").write_text(json.dumps(config))
    with ShardWriter(folder, shard_bytes) as shards:
        for name, tensor in model.state_dict().items():
            if "position_ids" in name or "lm_head" in name or ".head." in name:
                continue
            published = name.replace("model.language_model.", "language_model.model.")
            for part in ("vision_tower.", "multi_modal_projector."):
                published = published.replace(f"model.{part}", part)
            value = torch.randn_like(tensor) * 0.05 if tensor.ndim > 1 else tensor + 0.01 * torch.randn_like(tensor)
            shards.add(published.replace(*rename) if rename[0] else published, value.to(torch.bfloat16))
