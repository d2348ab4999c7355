"""The configuration of small Gemma 3 checkpoints, without torch: tests and the campaign of changed files make theirs of it."""

from __future__ import annotations

from typing import Any

TEXT: dict[str, Any] = {
    "model_type": "gemma3_text", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 64,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
}  # fmt: skip
VISION: dict[str, Any] = {
    "model_type": "siglip_vision_model", "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
