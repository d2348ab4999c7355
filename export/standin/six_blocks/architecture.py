"""The architecture of the six-block stand-in and its packed weights; importing this needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PACKED = Path(__file__).with_name("six_blocks.safetensors")
_TOWER = {"hidden_size": 192, "num_attention_heads": 3, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
CONFIG: dict[str, Any] = {
    "architectures": ["SiglipModel"],
    "model_type": "siglip",
    "vision_config": {
        **_TOWER, "model_type": "siglip_vision_model", "intermediate_size": 720, "num_hidden_layers": 6,
        "image_size": 112, "patch_size": 14, "num_channels": 3,
    },
    "text_config": {
        **_TOWER, "model_type": "siglip_text_model", "intermediate_size": 720, "num_hidden_layers": 3,
        "vocab_size": 32000, "max_position_embeddings": 64, "projection_size": 192,
        "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1,
    },
}  # fmt: skip
