"""4-bit weights in blocks along the input, rounded so that the layer's output on calibration data changes least.

Scales are fixed first, for each block, by searching the clipping that minimises the activation-weighted error; then GPTQ rounds,
as in `onnx_graph/four_bit.py`. LiteRT's blocks are symmetric and their scales have 16 bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..rounding.gptq import MIDDLE, round_gptq, symmetric_grid
from .graph import Graph, schema


def pack_nibbles(levels: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Levels -8..7, (N, K), two to a byte, the first in the low half."""
    low, high = (levels.reshape(-1)[start::2].view(np.uint8) & np.uint8(15) for start in (0, 1))
    packed: NDArray[np.uint8] = low | (high << np.uint8(4))
    return packed


def linears_to_4_bit(graph: Graph, hessians: Mapping[int, NDArray[np.float32]], block: int) -> int:
    """Store the weight of each linear layer whose width `block` divides in 4 bits, in place; returns how many are left."""
    left = 0
    for linear in graph.linears():
        weight = graph.array(linear.weight).T.astype(np.float32)  # (K, N), as GPTQ has it
        if len(weight) % block:
            left += 1
            continue
        hessian = hessians[linear.source]
        scale, zero = symmetric_grid(weight, block, np.maximum(np.diag(hessian), 1e-12))
        codes = round_gptq(weight, hessian, scale, zero, block)
        levels = np.ascontiguousarray(codes.T.astype(np.int8) - np.int8(MIDDLE))
        graph.set_value(linear.weight, pack_nibbles(levels), schema.TensorType.INT4, levels.shape)
        graph.set_block_scales(linear.weight, np.ascontiguousarray(scale.T.astype(np.float16)), block)
        linear.operator.opcodeIndex = graph.operator_code(schema.BuiltinOperator.FULLY_CONNECTED, 13)
    return left
