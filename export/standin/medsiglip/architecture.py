"""The architecture of `medsiglip-mini`, as its config.json states it; importing this needs no torch."""

from __future__ import annotations

from typing import Any

SIDE, PATCH = 196, 14
_BOTH = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
CONFIG: dict[str, Any] = {
    "architectures": ["SiglipModel"],
    "model_type": "siglip",
    # 720 = 16 x 45 is, like MedSigLIP's 4304, divisible by 16 but not by 32: the padding it needs is exercised here.
    "vision_config": {
        **_BOTH, "model_type": "siglip_vision_model", "hidden_size": 192, "num_attention_heads": 3,
        "intermediate_size": 720, "num_hidden_layers": 12, "image_size": SIDE, "patch_size": PATCH, "num_channels": 3,
    },
    "text_config": {
        **_BOTH, "model_type": "siglip_text_model", "hidden_size": 192, "num_attention_heads": 3,
        "intermediate_size": 720, "num_hidden_layers": 3, "vocab_size": 32000, "max_position_embeddings": 64,
        "projection_size": 192, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1,
    },
}  # fmt: skip
