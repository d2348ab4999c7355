"""Pack and unpack a stand-in's weights: the file that the repository carries. Importing this needs no torch.

The packed file holds fp16 weights, only those rows of the token embedding that training touched (all others are
exactly zero), and the tokenizer's `tokenizer.json`, compressed: a text tower without its vocabulary is no model, so
the vocabulary travels with the weights and a clone needs nothing else.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

if TYPE_CHECKING:
    import torch

PACKED = Path(__file__).with_name("medsiglip_mini.safetensors")
TABLE = "text_model.embeddings.token_embedding.weight"
POSITIONS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


def pack(state: Mapping[str, torch.Tensor], tokenizer: Tokenizer, rows: list[int], path: Path) -> None:
    """Write the packed file: weights rounded to fp16, only the embedding rows in `rows`.

    Args:
        state: the model's, by transformers' names.
        tokenizer: its padding and truncation are switched off.
        rows: ids of the tokens that training touched; all other rows of the table must be zero.
        path: the file.
    """
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
    """The full fp32 state of the model (embedding rows that were never trained are zero) and its tokenizer.

    Args:
        packed: a file that `pack` wrote.
    """
    arrays = load_file(packed)
    tokenizer = Tokenizer.from_str(lzma.decompress(arrays.pop("tokenizer.json.xz").tobytes()).decode())
    rows, values = arrays.pop("rows"), arrays.pop("rows.weight")
    state = {name: array.astype(np.float32) for name, array in arrays.items()}
    table = np.zeros((tokenizer.get_vocab_size(), values.shape[1]), np.float32)
    table[rows] = values
    state[TABLE] = table
    return state, tokenizer
