"""llama.cpp's own quantizer on a full-precision GGUF, with an importance matrix and with types chosen by tensor."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from ...runtime.device.cpu import usable_cores
from ...runtime.device.gguf_header import read_header
from ...runtime.device.llama_library import library, native_messages
from ...runtime.errors import StorageError
from ..recipes.gguf import GGUFRecipe
from .importance import Importance

# At most this much of a tensor is held in float32 at once; llama.cpp's own default is 8 GiB.
BUFFER = 512 << 20


def quantize_language(
    source: Path, out: Path, recipe: GGUFRecipe, *, importance: Importance | None = None,
    types: Mapping[str, str] | None = None, threads: int | None = None,
) -> None:  # fmt: skip
    """Quantize a language model's file.

    Args:
        source: a full-precision GGUF.
        out: the file to write.
        recipe: llama.cpp's mixture of types, and what stays in 16 bits.
        importance: weighs the rounding errors; without it all input channels count the same.
        types: {tensor: ggml type}, for tensors that are to have another type than the mixture gives them.
        threads: all usable cores where None.

    Raises:
        StorageError: llama.cpp could not write the file.
    """
    lib = library()
    params = lib.llama_model_quantize_default_params()
    params.nthread = threads or usable_cores()
    params.ftype = int(gguf.LlamaFileType[recipe.file_type])
    params.max_buf_size = BUFFER
    keep: list[Any] = []
    if importance is not None:
        params.imatrix = _importance_array(lib, importance, keep)
    if types := {**_kept(source, recipe), **(types or {})}:
        overrides = (lib.llama_model_tensor_override * (len(types) + 1))()
        for slot, (name, kind) in zip(overrides, types.items(), strict=False):
            slot.pattern, slot.type = f"^{re.escape(name)}$".encode(), int(gguf.GGMLQuantizationType[kind])
        params.tt_overrides = keep_alive(keep, overrides)
    if lib.llama_model_quantize(os.fsencode(source), os.fsencode(out), ctypes.byref(params)) != 0:
        out.unlink(missing_ok=True)
        raise StorageError(f"writing {out}: llama.cpp could not quantize ({native_messages()})")


def _kept(source: Path, recipe: GGUFRecipe) -> dict[str, str]:
    """The matrices that a recipe keeps in 16 bits: {tensor: type}."""
    header = read_header(source)
    late = header.get("block_count", 0) * 2 // 3
    kept = {}
    for name in header.tensors:
        found = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
        if found and (found[2] in recipe.keep or (found[2] in recipe.keep_late and int(found[1]) >= late)):
            kept[name] = "F16"
    return kept


def keep_alive(keep: list[Any], array: Any) -> Any:
    """A ctypes array as the pointer that a structure holds; the structure itself does not keep it from being freed."""
    keep.append(array)
    return ctypes.cast(array, ctypes.POINTER(array._type_))


def _importance_array(lib: Any, importance: Importance, keep: list[Any]) -> Any:
    entries = (lib.llama_model_imatrix_data * (len(importance.sums) + 1))()
    for entry, name in zip(entries, sorted(importance.sums), strict=False):
        values = np.ascontiguousarray(importance.mean(name))
        keep.append(values)
        entry.name, entry.size = name.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return keep_alive(keep, entries)


def encode_blocks(
    rows: NDArray[np.float32], kind: gguf.GGMLQuantizationType, weight: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """Rows of float32, (N, columns), to blocks of a ggml type, by ggml's own code; `weight`, (columns,), as importance.

    gguf-py's encoders know fewer types, and round a few values differently from ggml's.
    """
    if kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16):
        return gguf.quants.quantize(rows, kind).view(np.uint8)
    from llama_cpp._ggml import libggml

    encode = libggml.ggml_quantize_chunk
    encode.restype = ctypes.c_size_t
    encode.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    library()
    block, size = gguf.GGML_QUANT_SIZES[kind]
    count, columns = rows.shape
    assert columns % block == 0  # ggml itself would write past the end
    out = np.empty((count, columns // block * size), np.uint8)
    written = encode(int(kind), rows.ctypes.data, out.ctypes.data, 0, count, columns,
                     weight.ctypes.data if weight is not None else None)  # fmt: skip
    assert written == out.nbytes
    return out
