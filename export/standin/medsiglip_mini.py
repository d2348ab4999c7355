"""Pack and unpack `medsiglip-mini`: the committed weights file, and the Hugging Face checkpoint made from it.

The packed file holds fp16 weights, only those rows of the token embedding that training touched (all others are
exactly zero), and the tokenizer's `tokenizer.json`, compressed: a text tower without its vocabulary is no model, so
the vocabulary travels with the weights and a clone needs nothing else.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

if TYPE_CHECKING:
    import torch

PACKED = Path(__file__).with_name("medsiglip_mini.safetensors")
TABLE = "text_model.embeddings.token_embedding.weight"
POSITIONS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")

_TOWER = {"hidden_size": 192, "num_attention_heads": 3, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
CONFIG: dict[str, Any] = {
    "architectures": ["SiglipModel"],
    "model_type": "siglip",
    # 720 = 16 x 45 is, like MedSigLIP's 4304, divisible by 16 but not by 32: the padding it needs is exercised here.
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


def pack(state: Mapping[str, torch.Tensor], tokenizer: Tokenizer, rows: list[int], path: Path) -> None:
    """Write the packed file: weights rounded to fp16, only the embedding rows in `rows`."""
    import torch

    arrays: dict[str, np.ndarray] = {}
    for name, tensor in state.items():
        if name in POSITIONS:
            continue
        half = tensor.to(torch.float16)
        if name == TABLE:
            arrays["rows"] = np.asarray(rows, np.int32)
            arrays["rows.weight"] = half[rows].numpy()
        else:
            arrays[name] = half.numpy()
    tokenizer.no_padding()
    tokenizer.no_truncation()
    arrays["tokenizer.json.xz"] = np.frombuffer(lzma.compress(tokenizer.to_str().encode(), preset=9), np.uint8)
    save_file(arrays, path)


def unpack(packed: Path = PACKED) -> tuple[dict[str, np.ndarray], Tokenizer]:
    """The full fp32 state of the model (embedding rows that were never trained are zero) and its tokenizer."""
    arrays = load_file(packed)
    tokenizer = Tokenizer.from_str(lzma.decompress(arrays.pop("tokenizer.json.xz").tobytes()).decode())
    rows, values = arrays.pop("rows"), arrays.pop("rows.weight")
    state = {name: array.astype(np.float32) for name, array in arrays.items()}
    table = np.zeros((tokenizer.get_vocab_size(), values.shape[1]), np.float32)
    table[rows] = values
    state[TABLE] = table
    return state, tokenizer
