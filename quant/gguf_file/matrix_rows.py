"""Rows of a weight matrix in a GGUF, as they are stored and as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import gguf
import numpy as np
from numpy.typing import NDArray

from ...runtime.device.gguf_header import GGUFTensor


def stored_rows(path: Path, tensor: GGUFTensor, mode: Literal["r", "r+"] = "r") -> NDArray[np.uint8]:
    """A matrix's rows, (N, bytes), mapped; with "r+" what is written to them is written to the file."""
    rows = tensor.values // tensor.shape[0]
    return np.memmap(path, np.uint8, mode, tensor.offset, (rows, tensor.bytes // rows))


def decoded(rows: NDArray[np.uint8], kind: gguf.GGMLQuantizationType) -> NDArray[np.float32]:
    """Stored rows, (N, bytes), as numbers, (N, columns)."""
    return np.asarray(gguf.quants.dequantize(np.ascontiguousarray(rows), kind), np.float32)


def spread_over(rows: NDArray[np.uint8], most: int) -> NDArray[np.int_]:
    """Numbers of at most so many rows, spread over all."""
    return np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int))
