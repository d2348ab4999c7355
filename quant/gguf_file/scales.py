"""The scales of ggml's blocks, made larger or smaller by a factor for each block; codes stay as they are.

Every block of a quantized type is its codes times a half-precision scale, for some types plus a minimum times another. Where both
are multiplied by a factor, all values of the block are. So a factor that was learned (`quant.distill.factors`) goes into the
file, whose types, size and speed stay. Only the places of the halves are written down here.
"""

from __future__ import annotations

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

# Bytes of a block at which its halves begin: the scale, then the minimum's where the type has one (ggml-common.h).
HALVES: dict[Type, tuple[int, ...]] = {
    Type.Q4_0: (0,), Type.Q4_1: (0, 2), Type.Q5_0: (0,), Type.Q5_1: (0, 2), Type.Q8_0: (0,),
    Type.Q2_K: (80, 82), Type.Q3_K: (108,), Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208,),
    Type.IQ4_NL: (0,), Type.IQ4_XS: (0,), Type.IQ3_S: (0,), Type.IQ3_XXS: (0,),
    Type.IQ2_S: (0,), Type.IQ2_XS: (0,), Type.IQ2_XXS: (0,),
}  # fmt: skip
MOST = np.float32(np.finfo(np.float16).max)


def block_length(kind: Type) -> int:
    """Weights that share a scale."""
    return gguf.GGML_QUANT_SIZES[kind][0]


def scaled(rows: NDArray[np.uint8], kind: Type, factors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stored rows with each block's values multiplied by its factor, as far as half precision tells scales apart.

    Args:
        rows: (N, bytes) uint8, of a matrix as it is stored.
        kind: its type, one of `HALVES`.
        factors: (N, blocks) float32.
    """
    size = gguf.GGML_QUANT_SIZES[kind][1]
    out = np.array(rows).reshape(len(rows), -1, size)
    for at in HALVES[kind]:
        halves = np.ascontiguousarray(out[:, :, at : at + 2]).view("<f2")[..., 0].astype(np.float32)
        moved = np.clip(halves * factors, -MOST, MOST).astype("<f2")
        out[:, :, at : at + 2] = moved[..., None].view(np.uint8)
    return out.reshape(rows.shape)
