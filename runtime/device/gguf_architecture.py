"""What a GGUF must hold to be a Gemma 3 language model or its projector, computed from its own hyper-parameters.

llama.cpp ends the process on what it does not expect: a norm in 16 bits, a key of another type, a vocabulary with a piece twice.
So it is given nothing that medge's exporter could not have written: every key with its type, every tensor with its shape and a
type that belongs to its role, a vocabulary whose parts fit. The names are those of llama.cpp's src/models/gemma3.cpp and
tools/mtmd/clip.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from math import isfinite
from pathlib import Path

from ..errors import BundleError, one_line
from .gguf_header import MAX_REASON, GGUFHeader, GGUFTensor, read_header

LANGUAGE, PROJECTOR = "gemma3", "clip"
VOCABULARY = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type")

# Types of matrices: of the language model what the recipes' mixtures and the choice by sensitivity write, with the types that
# llama.cpp's quantizer takes where 256 does not divide a row; of the tower what the projectors' recipes write. Norms, biases and
# the patch embedding are F32 always. tests/quant/gguf_file/test_gguf.py holds both against the recipes.
LANGUAGE_TYPES = frozenset({
    "F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_0", "IQ4_XS", "IQ4_NL", "Q3_K", "Q2_K",
    "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS",
})  # fmt: skip
PROJECTOR_TYPES = frozenset({"F32", "F16", "BF16", "Q8_0", "Q5_1", "Q4_1"})
_F32, _F16 = frozenset({"F32"}), frozenset({"F16"})

# Keys: a pattern, and the type of what it holds. gguf-py writes the general ones from a model card.
GENERAL = {
    r"general\.(architecture|type|name|author|version|organization|finetune|basename|description|quantized_by|size_label)": "STR",
    r"general\.(license(\.name|\.link)?|url|doi|uuid|repo_url|source\.\w+|(base_model|dataset)\.\d+\.\w+)": "STR",
    r"general\.((base_model|dataset)\.count|file_type|quantization_version)": "U32",
    r"general\.(tags|languages)": "[STR]",
    r"general\.sampling\.sequence": "STR",
    r"general\.sampling\.(top_k|penalty_last_n|mirostat)": "I32",
    r"general\.sampling\.(top_p|min_p|xtc_probability|xtc_threshold|temp|penalty_repeat|mirostat_tau|mirostat_eta)": "F32",
}
_LANGUAGE_KEYS = GENERAL | {
    r"tokenizer\.(ggml\.(model|pre)|chat_template(\.\w+)?)": "STR",
    r"tokenizer\.chat_templates": "[STR]",
    r"tokenizer\.ggml\.tokens": "[STR]",
    r"tokenizer\.ggml\.scores": "[F32]",
    r"tokenizer\.ggml\.token_type": "[I32]",
    r"tokenizer\.ggml\.(bos|eos|unknown|seperator|padding|mask|eot|eom)_token_id": "U32",
    r"tokenizer\.ggml\.add_(bos_token|eos_token|sep_token|space_prefix)": "BOOL",
    r"gemma3\.(block_count|context_length|embedding_length|feed_forward_length)": "U32",
    r"gemma3\.attention\.(head_count|head_count_kv|key_length|value_length|sliding_window)": "U32",
    r"gemma3\.attention\.layer_norm_rms_epsilon": "F32",
    r"gemma3\.rope\.scaling\.type": "STR",
    r"gemma3\.(rope\.(scaling\.factor|freq_base|freq_base_swa)|final_logit_softcapping)": "F32",
}
_PROJECTOR_KEYS = GENERAL | {
    r"clip\.(has_vision_encoder|use_gelu)": "BOOL",
    r"clip\.projector_type": "STR",
    r"clip\.vision\.(projection_dim|image_size|patch_size|embedding_length|feed_forward_length|block_count)": "U32",
    r"clip\.vision\.(attention\.head_count|projector\.scale_factor)": "U32",
    r"clip\.vision\.image_(mean|std)": "[F32]",
    r"clip\.vision\.attention\.layer_norm_epsilon": "F32",
}
# Numbers without which there is no model, and the greatest that any has reason to have; all of them are at least 1.
_LANGUAGE_NUMBERS = {
    "block_count": 512, "context_length": 1 << 24, "embedding_length": 1 << 16, "feed_forward_length": 1 << 18,
    "attention.head_count": 1 << 10, "attention.head_count_kv": 1 << 10, "attention.key_length": 1 << 10,
    "attention.value_length": 1 << 10, "attention.sliding_window": 1 << 24,
}  # fmt: skip
_PROJECTOR_NUMBERS = {
    "vision.projection_dim": 1 << 16, "vision.image_size": 1 << 13, "vision.patch_size": 1 << 10,
    "vision.embedding_length": 1 << 16, "vision.feed_forward_length": 1 << 18, "vision.block_count": 512,
    "vision.attention.head_count": 1 << 10,
}  # fmt: skip
_POSITIVE = {  # floats
    LANGUAGE: ("attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.freq_base_swa"),
    PROJECTOR: ("vision.attention.layer_norm_epsilon",),
}
DEFAULT_POOLED = 4  # llama.cpp's, where the file says nothing of how many patches become one
ALIGNMENT = 32  # of tensors, where a file says nothing of it; none of ours does
BYTE = 6  # llama.cpp's LLAMA_TOKEN_TYPE_BYTE, the greatest type of a token

Tensors = dict[str, tuple[tuple[int, ...], frozenset[str]]]  # {name: (shape in ggml's order, types it may have)}


def read_language(path: Path) -> GGUFHeader:
    """The head of a language model's file, checked against its architecture.

    Raises:
        BundleError: one sentence on what is wrong with it.
    """
    header = read_header(path, VOCABULARY)
    _check_keys(header, LANGUAGE, _LANGUAGE_KEYS, _LANGUAGE_NUMBERS)
    size = _check_vocabulary(header)
    _check_language_numbers(header)
    _check_tensors(header, _language_tensors(header, size))
    lengths = {key: len(header.metadata[key]) for key in VOCABULARY}  # nobody needs megabytes of pieces any more
    return replace(header, metadata={**header.metadata, **lengths})


def read_projector(path: Path) -> GGUFHeader:
    """The head of a file with a vision tower and its projector, checked likewise.

    Raises:
        BundleError: one sentence on what is wrong with it.
    """
    header = read_header(path, ("clip.vision.image_mean", "clip.vision.image_std"))
    _check_keys(header, PROJECTOR, _PROJECTOR_KEYS, _PROJECTOR_NUMBERS)
    get = header.get
    if header.metadata.get("clip.projector_type") != "gemma3" or get("has_vision_encoder") is not True:
        raise _bad(header, "it holds no vision tower of Gemma 3")
    if get("use_gelu") is not True:
        raise _bad(header, "its tower has another activation than GELU")
    for key in ("vision.image_mean", "vision.image_std"):
        values = get(key)
        if not isinstance(values, list) or len(values) != 3 or not all(map(isfinite, values)):
            raise _bad(header, f"its {key} are not three numbers")
    if min(get("vision.image_std")) <= 0:
        raise _bad(header, "its vision.image_std are not positive")
    pooled = get("vision.projector.scale_factor", DEFAULT_POOLED)
    side, rest = divmod(get("vision.image_size"), get("vision.patch_size"))
    if rest or pooled < 1 or side % pooled:
        raise _bad(header, f"an image of {get('vision.image_size')} pixels has no whole patches or tokens")
    if get("vision.embedding_length") % get("vision.attention.head_count"):
        raise _bad(header, "its width is not a multiple of its heads")
    _check_tensors(header, _projector_tensors(header, side**2))
    return header


def image_tokens(projector: GGUFHeader) -> int:
    """Tokens that a projector makes of an image."""
    pooled = projector.get("vision.projector.scale_factor", DEFAULT_POOLED)
    return int(projector.get("vision.image_size") // projector.get("vision.patch_size") // pooled) ** 2


def _check_keys(header: GGUFHeader, architecture: str, keys: Mapping[str, str], numbers: Mapping[str, int]) -> None:
    if header.architecture != architecture:
        raise _bad(header, f"its architecture is {header.architecture!r} instead of {architecture!r}")
    patterns = [(re.compile(pattern), kind) for pattern, kind in keys.items()]
    for key, kind in header.kinds.items():
        wanted = next((wanted for pattern, wanted in patterns if pattern.fullmatch(key)), None)
        if wanted is None:
            raise _bad(header, f"the key {key!r}, which medge never writes")
        if kind != wanted:
            raise _bad(header, f"its {key} is of the type {kind} instead of {wanted}")
    for name, most in numbers.items():
        value = header.get(name)
        if value is None or not 1 <= value <= most:
            raise _bad(header, f"its {architecture}.{name} is {'missing' if value is None else value}")
    for name in _POSITIVE[architecture]:
        value = header.get(name)
        if value is None or not 0 < value < float("inf"):
            raise _bad(header, f"its {architecture}.{name} is {'missing' if value is None else value}")


def _check_language_numbers(header: GGUFHeader) -> None:
    get = header.get
    heads, groups = get("attention.head_count"), get("attention.head_count_kv")
    if (
        heads % groups
        or get("attention.key_length") != get("attention.value_length")
        or get("attention.key_length") % 2
    ):
        raise _bad(header, "its heads don't fit each other")
    if get("rope.scaling.type", "linear") != "linear":
        raise _bad(header, f"its positions are scaled by {get('rope.scaling.type')!r}")
    for name in ("rope.scaling.factor", "final_logit_softcapping"):
        if not 0 < get(name, 1.0) < float("inf"):
            raise _bad(header, f"its {LANGUAGE}.{name} is {get(name)}")


def _check_vocabulary(header: GGUFHeader) -> int:
    """Whether pieces, scores and types belong together; how many there are.

    llama.cpp's tokenizer stops the process where a piece stands twice, where a byte has no piece, and where a piece that is said
    to be a byte's is named otherwise.
    """
    pieces, scores, types = (header.metadata.get(key) for key in VOCABULARY)
    if pieces is None or scores is None or types is None or not len(pieces) == len(scores) == len(types) > 0:
        raise _bad(header, "its pieces, scores and types are not equally many")
    if header.metadata.get("tokenizer.ggml.model") != "llama":
        raise _bad(header, "its tokenizer is not SentencePiece's")
    if header.metadata.get("tokenizer.ggml.add_space_prefix") is not False:  # Gemma's texts begin as they are written
        raise _bad(header, "its tokenizer does not say that no space is put before a text")
    if len(set(pieces)) != len(pieces) or b"" in pieces:
        raise _bad(header, "its vocabulary has an empty piece, or one twice")
    if min(types) < 1 or max(types) > BYTE or not isfinite(sum(scores)):
        raise _bad(header, "its vocabulary has a type or a score that means nothing")
    named = {piece for piece, kind in zip(pieces, types, strict=True) if kind == BYTE}
    if named != {b"<0x%02X>" % byte for byte in range(256)}:
        raise _bad(header, "its vocabulary lacks pieces for single bytes, or has wrong ones")
    for key, value in header.metadata.items():
        if key.endswith("_token_id") and value >= len(pieces):
            raise _bad(header, f"its {key} is {value}, beyond its {len(pieces):,} pieces")
    return len(pieces)


def _language_tensors(header: GGUFHeader, vocabulary: int) -> Tensors:
    get = header.get
    width, inner, head = get("embedding_length"), get("feed_forward_length"), get("attention.key_length")
    asked, kept = head * get("attention.head_count"), head * get("attention.head_count_kv")
    tensors: Tensors = {
        "token_embd.weight": ((width, vocabulary), LANGUAGE_TYPES), "output_norm.weight": ((width,), _F32),
    }  # fmt: skip
    if "output.weight" in header.tensors:  # a head of its own, where it is not the embedding
        tensors["output.weight"] = ((width, vocabulary), LANGUAGE_TYPES)
    norms = {"attn_norm": width, "post_attention_norm": width, "ffn_norm": width, "post_ffw_norm": width,
             "attn_q_norm": head, "attn_k_norm": head}  # fmt: skip
    matrices = {"attn_q": (width, asked), "attn_k": (width, kept), "attn_v": (width, kept), "attn_output": (asked, width),
                "ffn_gate": (width, inner), "ffn_up": (width, inner), "ffn_down": (inner, width)}  # fmt: skip
    for layer in range(get("block_count")):
        tensors |= {f"blk.{layer}.{name}.weight": ((size,), _F32) for name, size in norms.items()}
        tensors |= {f"blk.{layer}.{name}.weight": (shape, LANGUAGE_TYPES) for name, shape in matrices.items()}
    return tensors


def _projector_tensors(header: GGUFHeader, patches: int) -> Tensors:
    get = header.get
    width, inner, patch = get("vision.embedding_length"), get("vision.feed_forward_length"), get("vision.patch_size")
    tensors: Tensors = {
        "mm.input_projection.weight": ((get("vision.projection_dim"), width), _F16),
        "mm.soft_emb_norm.weight": ((width,), _F32),
        "v.patch_embd.weight": ((patch, patch, 3, width), _F32),
        "v.patch_embd.bias": ((width,), _F32),
        "v.position_embd.weight": ((width, patches), _F32),
        "v.post_ln.weight": ((width,), _F32),
        "v.post_ln.bias": ((width,), _F32),
    }
    matrices = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_out"), (width, width))
    matrices |= {"ffn_up": (width, inner), "ffn_down": (inner, width)}
    for layer in range(get("vision.block_count")):
        for name in ("ln1", "ln2"):
            tensors |= {f"v.blk.{layer}.{name}.{part}": ((width,), _F32) for part in ("weight", "bias")}
        for name, shape in matrices.items():
            tensors[f"v.blk.{layer}.{name}.weight"] = (shape, PROJECTOR_TYPES)
            tensors[f"v.blk.{layer}.{name}.bias"] = (shape[1:], _F32)
    return tensors


def _check_tensors(header: GGUFHeader, wanted: Tensors) -> None:
    if foreign := next((name for name in header.tensors if name not in wanted), None):
        raise _bad(header, f"the tensor {foreign!r}, which medge never writes")
    for name, (shape, types) in wanted.items():
        found = header.tensors.get(name)
        if found is None:
            raise _bad(header, f"it lacks the tensor {name!r}")
        if found.shape != shape:
            raise _bad(header, f"its tensor {name!r} has the shape {found.shape} instead of {shape}")
        if found.type not in types:
            raise _bad(header, f"its tensor {name!r} is of the type {found.type}, which medge never gives it")

    places = [(tensor.offset, tensor.offset + tensor.bytes) for tensor in sorted(header.tensors.values(), key=_offset)]
    if any(begin != _aligned(end) for (_, end), (begin, _) in pairwise(places)):
        raise _bad(header, "its tensors don't follow each other")
    size = header.path.stat().st_size  # bytes that came in somewhere would shift all weights behind them
    if size != _aligned(places[-1][1]):
        raise _bad(header, f"it has {size:,} bytes, its tensors take {_aligned(places[-1][1]):,}")


def _offset(tensor: GGUFTensor) -> int:
    return tensor.offset


def _aligned(place: int) -> int:
    return place + -place % ALIGNMENT


def _bad(header: GGUFHeader, reason: str) -> BundleError:
    return BundleError(f"{header.path} is no GGUF of medge: {one_line(reason, MAX_REASON)}; copy or export it again")
