"""A Gemma 3 checkpoint to full-precision GGUF: the language model, and the vision tower with its projector (`mmproj`).

Tensors, their types and the metadata are what llama.cpp's own converter writes (tests/export/to_gguf/test_to_gguf.py compares
them byte by byte at the version that llama-cpp-python pins). What differs is how: that converter imports transformers
and holds whole tensors, this one reads a slice of rows, converts it and writes it, so that peak memory does not grow
with the model.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from gguf.quants import quantize
from numpy.typing import NDArray

from ...quant.onnx_graph.pad import MULTIPLE
from ...runtime.errors import CheckpointError
from ...runtime.progress import Progress, no_progress
from ..families.gemma3 import LAYERS_27B, image_tokens, published_name, text_config, vision_config
from ..source.checkpoint import Checkpoint, read_json
from .vocabulary import add_vocabulary

Precision = Literal["f32", "f16", "bf16"]

FILE_TYPES: dict[str, tuple[gguf.LlamaFileType, gguf.GGMLQuantizationType]] = {
    "f32": (gguf.LlamaFileType.ALL_F32, gguf.GGMLQuantizationType.F32),
    "f16": (gguf.LlamaFileType.MOSTLY_F16, gguf.GGMLQuantizationType.F16),
    "bf16": (gguf.LlamaFileType.MOSTLY_BF16, gguf.GGMLQuantizationType.BF16),
}

CHUNK_VALUES = 16 << 20  # converted at once: 64 MB in fp32


@dataclass(frozen=True)
class Planned:
    """One tensor on its way: where it comes from and what it becomes.

    Attributes:
        source: its name in the checkpoint.
        name: its name in the GGUF.
        type: what it is stored as.
        shape: as stored, rows first; longer than the source's where it is padded with zeros.
        shift: added to every value; RMSNorm weights are published minus one.
    """

    source: str
    name: str
    type: gguf.GGMLQuantizationType
    shape: tuple[int, ...]
    shift: float = 0.0

    @property
    def bytes(self) -> int:
        block, size = gguf.GGML_QUANT_SIZES[self.type]
        return prod(self.shape) // block * size


class Writer(gguf.GGUFWriter):
    """gguf's writer, which packs a vocabulary in a moment; its own packs value by value, in eight seconds, the same bytes."""

    def _pack_val(
        self, val: Any, vtype: gguf.GGUFValueType, add_vtype: bool, sub_type: gguf.GGUFValueType | None = None
    ) -> bytes:
        kinds = {type(item) for item in val} if vtype is gguf.GGUFValueType.ARRAY and sub_type is None else set()
        if kinds == {bytes}:
            kind, packed = gguf.GGUFValueType.STRING, b"".join(struct.pack("<Q", len(item)) + item for item in val)
        elif kinds == {float}:
            kind, packed = gguf.GGUFValueType.FLOAT32, np.array(val, "<f4").tobytes()
        elif kinds == {int}:
            kind, packed = gguf.GGUFValueType.INT32, np.array(val, "<i4").tobytes()
        else:
            return super()._pack_val(val, vtype, add_vtype, sub_type)
        return struct.pack("<I", vtype) * add_vtype + struct.pack("<IQ", kind, len(val)) + packed


def plan_language(checkpoint: Checkpoint, precision: Precision) -> list[Planned]:
    """The language model's tensors, in the order in which the weight files hold them.

    Raises:
        CheckpointError: a tensor that GGUF has no name for, or none at all.
    """
    config = text_config(checkpoint)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, config["num_hidden_layers"])
    tied = checkpoint.config.get("tie_word_embeddings", config.get("tie_word_embeddings", True))
    planned = []
    for source in checkpoint.in_file_order():
        name = published_name(source)
        if not name.startswith("language_model.") or (tied and name == "language_model.lm_head.weight"):
            continue
        new = names.get_name(name.removeprefix("language_model."), try_suffixes=(".weight", ".bias"))
        if new is None:
            raise CheckpointError(f"{checkpoint.folder}: no place in a Gemma 3 GGUF for the tensor {source!r}")
        shape = checkpoint.shape(source)
        if name.endswith("embed_tokens.weight"):
            shape = (min(shape[0], config["vocab_size"]), *shape[1:])
        norm = name.endswith("norm.weight")
        kind = gguf.GGMLQuantizationType.F32 if norm or len(shape) < 2 else FILE_TYPES[precision][1]
        planned.append(Planned(source, new, kind, shape, 1.0 if norm else 0.0))
    if not planned:
        raise CheckpointError(f"{checkpoint.folder}: the weights hold no language model")
    return planned


def plan_projector(
    checkpoint: Checkpoint, precision: Precision, pad: int = 0, block_type: gguf.GGMLQuantizationType | None = None
) -> list[Planned]:
    """The vision tower's and projector's tensors.

    Args:
        checkpoint: a multimodal Gemma 3.
        precision: of everything that is not kept in another on purpose.
        pad: widen each MLP's hidden layer with zeros to a multiple of this; 0 leaves it.
        block_type: a block format for the layers' matrices, in the place of `precision`, where blocks fit their width.
    """
    vision = vision_config(checkpoint)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, vision["num_hidden_layers"])
    types = gguf.GGMLQuantizationType
    planned = []
    for source in checkpoint.in_file_order():
        name = published_name(source)
        if not name.startswith(("vision_tower.", "multi_modal_projector.")) or ".vision_model.head." in name:
            continue
        new = names.get_name(name.replace("_weight", ".weight"), try_suffixes=(".weight", ".bias"))
        if new is None:
            raise CheckpointError(f"{checkpoint.folder}: no place in an mmproj GGUF for the tensor {source!r}")
        shape = checkpoint.shape(source)
        if pad and re.search(r"mlp\.(fc1\.(weight|bias)|fc2\.weight)$", name):
            axis = 0 if ".fc1." in name else 1
            shape = tuple(n + (-n % pad if index == axis else 0) for index, n in enumerate(shape))
        if ".embeddings." in name or len(shape) < 2:
            kind = types.F32
        elif "input_projection" in name:  # llama.cpp transposes it while running, which block formats can't be
            kind = types.F16
        else:
            fits = block_type is not None and shape[-1] % gguf.GGML_QUANT_SIZES[block_type][0] == 0
            kind = block_type if block_type is not None and fits else FILE_TYPES[precision][1]
        planned.append(Planned(source, new, kind, shape, 1.0 if "soft_emb_norm" in name else 0.0))
    if not planned:
        raise CheckpointError(f"{checkpoint.folder}: the weights hold no vision tower")
    return planned


def write_language(checkpoint: Checkpoint, out: Path, precision: Precision, progress: Progress = no_progress) -> None:
    """Write the language model as GGUF."""
    planned = plan_language(checkpoint, precision)
    writer = Writer(out, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.GEMMA3])
    _add_identity(writer, checkpoint, planned, gguf.GGUFType.MODEL)
    add_vocabulary(writer, checkpoint)
    _add_language_parameters(writer, checkpoint, FILE_TYPES[precision][0])
    _write(writer, checkpoint, planned, progress)


def write_projector(
    checkpoint: Checkpoint, out: Path, precision: Precision, *, pad: bool = False,
    block_type: gguf.GGMLQuantizationType | None = None,
    encode: Callable[[NDArray[np.float32], gguf.GGMLQuantizationType], NDArray[np.uint8]] | None = None,
    progress: Progress = no_progress,
) -> None:  # fmt: skip
    """Write the vision tower and projector as an `mmproj` GGUF.

    Args:
        pad: widen the MLPs from 4304 to 4352, which changes nothing but lets every block format fit.
        block_type: store the layers' matrices in this block format.
        encode: rows of float32 to blocks of that type; gguf's own encoder where None.
    """
    planned = plan_projector(checkpoint, precision, MULTIPLE if pad else 0, block_type)
    writer = Writer(out, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.MMPROJ])
    _add_identity(writer, checkpoint, planned, gguf.GGUFType.MMPROJ)
    _add_projector_parameters(writer, checkpoint, planned, FILE_TYPES[precision][0])
    _write(writer, checkpoint, planned, progress, encode)


def _add_identity(writer: gguf.GGUFWriter, checkpoint: Checkpoint, planned: list[Planned], kind: str) -> None:
    total = sum(prod(item.shape) for item in planned)
    identity = gguf.Metadata.load(None, checkpoint.folder, None, total)
    identity.name = identity.name or checkpoint.folder.name
    identity.size_label = identity.size_label or gguf.size_label(total, total, 0, 0)
    writer.add_type(kind)
    identity.set_gguf_meta_model(writer)


def _add_language_parameters(writer: gguf.GGUFWriter, checkpoint: Checkpoint, file_type: gguf.LlamaFileType) -> None:
    config = text_config(checkpoint)
    if config.get("attn_logit_softcapping") is not None:
        raise CheckpointError(f"{checkpoint.folder}: attention soft-capping belongs to Gemma 2, not to Gemma 3")
    # No key says how queries are scaled: llama.cpp (src/models/gemma3.cpp) takes a head's size, and for the 27B, which it
    # knows by its 62 layers, the width of a head. A model trained otherwise would run, and be wrong.
    heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
    scaled = config["hidden_size"] // heads if layers == LAYERS_27B else config["head_dim"]
    if config["query_pre_attn_scalar"] != scaled:
        raise CheckpointError(
            f"{checkpoint.folder}: query_pre_attn_scalar is {config['query_pre_attn_scalar']}, llama.cpp would scale by {scaled}"
        )
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    scaling = config.get("rope_scaling") or (config.get("rope_parameters") or {}).get("full_attention") or {}
    if scaling.get("rope_type", scaling.get("type")) == "linear":  # 4B and larger stretch positions by 8
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_freq_base_swa(config["rope_local_base_freq"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    if softcap := config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(softcap)
    writer.add_sliding_window(config["sliding_window"])
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_projector_parameters(
    writer: gguf.GGUFWriter, checkpoint: Checkpoint, planned: list[Planned], file_type: gguf.LlamaFileType
) -> None:
    vision, preprocessor = vision_config(checkpoint), read_json(checkpoint.folder / "preprocessor_config.json")
    hidden = {item.shape[0] for item in planned if item.name.endswith("ffn_up.weight")}
    writer.add_file_type(file_type)
    writer.add_clip_has_vision_encoder(True)
    writer.add_vision_projection_dim(text_config(checkpoint)["hidden_size"])
    writer.add_vision_image_size(vision["image_size"])
    writer.add_vision_patch_size(vision["patch_size"])
    writer.add_vision_embedding_length(vision["hidden_size"])
    writer.add_vision_feed_forward_length(max(hidden, default=vision["intermediate_size"]))
    writer.add_vision_block_count(vision["num_hidden_layers"])
    writer.add_vision_head_count(vision["num_attention_heads"])
    writer.add_vision_image_mean(preprocessor["image_mean"])
    writer.add_vision_image_std(preprocessor["image_std"])
    writer.add_clip_projector_type(gguf.VisionProjectorType.GEMMA3)
    writer.add_vision_attention_layernorm_eps(vision.get("layer_norm_eps", 1e-6))
    writer.add_vision_use_gelu(True)
    pooled = vision["image_size"] // vision["patch_size"] // int(image_tokens(checkpoint) ** 0.5)
    if pooled != 4:  # llama.cpp's default, which the published models keep
        writer.add_vision_projector_scale_factor(pooled)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _write(
    writer: gguf.GGUFWriter, checkpoint: Checkpoint, planned: list[Planned], progress: Progress,
    encode: Callable[[NDArray[np.float32], gguf.GGMLQuantizationType], NDArray[np.uint8]] | None = None,
) -> None:  # fmt: skip
    for item in planned:
        writer.add_tensor_info(item.name, item.shape, np.dtype(np.float32), item.bytes, item.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    assert writer.fout is not None
    stream = writer.fout[0]
    total = sum(item.bytes for item in planned)
    done = 0
    for item in planned:
        writer.write_padding(stream, stream.tell())
        for rows in _rows(checkpoint, item):
            (encode or quantize)(rows, item.type).tofile(stream)
        writer.write_padding(stream, item.bytes)
        done += item.bytes
        progress("writing GGUF, MB", done >> 20, total >> 20)
    writer.close()


def _rows(checkpoint: Checkpoint, item: Planned) -> Iterator[NDArray[np.float32]]:
    """The tensor in float32, a slice of rows at a time, shifted and padded with zeros."""
    import torch

    width = prod(item.shape[1:])
    step = max(1, CHUNK_VALUES // width)
    stored = checkpoint.shape(item.source)
    for start in range(0, item.shape[0], step):
        stop = min(start + step, item.shape[0])
        rows = checkpoint.rows(item.source, min(start, stored[0]), min(stop, stored[0])).to(torch.float32)
        values = rows.numpy() + np.float32(item.shift) if item.shift else rows.numpy()
        extra = [(0, size - have) for size, have in zip((stop - start, *item.shape[1:]), values.shape, strict=True)]
        yield np.ascontiguousarray(np.pad(values, extra) if any(after for _, after in extra) else values)
