"""What each weight matrix is multiplied with, read while llama.cpp itself runs a full-precision file.

llama.cpp's callback for every operation of the graph hands out the very inputs that a matrix is multiplied with, under
the file's own names, so memory stays what running the model takes, and images pass through the real tower and projector.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...runtime.device.ggml import GGMLTensor
from ...runtime.generator.engine import BATCH, Engine, Observer
from ...runtime.generator.prompt import Item

TIED = "token_embd.weight"

STRIDE = 4  # of the positions, one's output is computed: at a large vocabulary outputs are most of the work

TINY = 1e-20  # mean square of a row of zeros

# Matrices that are multiplied with the same inputs as another: theirs are gathered once.
SAME_INPUTS = {"attn_k": "attn_q", "attn_v": "attn_q", "ffn_gate": "ffn_up"}

_F32 = 0  # GGML_TYPE_F32

Add = Callable[[str, NDArray[np.float32]], None]


@dataclass(frozen=True)
class CalibrationRun:
    """What a full-precision model runs when it is calibrated.

    Attributes:
        full, projector: GGUF files of the language model, and of the vision tower where there are images.
        prompts: texts cut to size, and each image with a question about it, given the engine to tokenize with; each at most
            `BATCH` positions long.
    """

    full: Path
    projector: Path | None
    prompts: Callable[[Engine], list[list[Item]]]

    def engine(self, add: Add, wanted: Callable[[str], bool], threads: int | None = None) -> Engine:
        """The model, opened so that it gives inputs away as `observer` does."""
        return Engine(
            self.full, self.projector, context=BATCH, threads=threads, measuring=True, observer=observer(add, wanted)
        )


def input_of(matrix: str) -> str:
    """The matrix whose inputs stand for those of this one."""
    return re.sub(r"\.(\w+)\.weight$", lambda found: f".{SAME_INPUTS.get(found[1], found[1])}.weight", matrix)


def observer(add: Add, wanted: Callable[[str], bool] = lambda _: True) -> Observer:
    """An observer for `Engine` that gives inputs away.

    Args:
        add: takes a matrix's name and its inputs, (N, columns), which lie in llama.cpp's memory and are gone after the call.
            Of the last layer there are none in a step whose logits nobody asked for; then it is not called.
        wanted: whether a matrix's inputs are asked for; all of the layers' and the output's are where it is left out.
    """
    import llama_cpp._ggml as ggml

    name_of = ggml.libggml.ggml_op_name
    name_of.argtypes, name_of.restype = [ctypes.c_int], ctypes.c_char_p
    numbers: dict[int, bool] = {}

    def observe(address: int, ask: bool) -> bool:
        node = GGMLTensor.from_address(address)
        if node.op not in numbers:
            numbers[node.op] = name_of(node.op) == b"MUL_MAT"
        if not numbers[node.op]:
            return False
        weight = GGMLTensor.from_address(node.src[0])
        name = weight.name.decode("utf-8", "replace")
        inputs = GGMLTensor.from_address(node.src[1])
        asked = name.endswith(".weight") and name.startswith(("blk.", TIED, "output.")) and wanted(name)
        if not asked or inputs.type != _F32 or not inputs.data:
            return asked and ask
        if not ask:
            shape, strides = tuple(inputs.ne)[::-1], tuple(inputs.nb)[::-1]
            extent = 4 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
            buffer = np.ctypeslib.as_array((ctypes.c_float * (extent // 4)).from_address(inputs.data))
            rows = np.lib.stride_tricks.as_strided(buffer, shape, strides).reshape(-1, shape[-1])
            if len(rows):
                add(name, rows)
        return True

    return observe


def evened(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inputs, (N, columns), each scaled to a mean square of one, so that every position counts the same.

    In plain squares the few positions with massive activations, those of an image above all, drown the others
    (docs/decisions/0008-importance.md has what that costs).
    """
    energy = np.einsum("ij,ij->i", rows, rows) / rows.shape[1]
    return np.asarray(rows / np.sqrt(np.maximum(energy, TINY))[:, None], np.float32)
