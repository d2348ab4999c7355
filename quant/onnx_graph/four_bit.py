"""4-bit weights in blocks along the input, rounded so that the layer's output on calibration data changes least.

Rounding follows GPTQ (Frantar et al. 2023): columns of the Hessian X.T X are visited from the most to the least
active, and each rounding error is spread over the inputs not yet rounded. Scales and zero points are fixed first, per
block and output, by searching the clipping that minimises the activation-weighted error. The result is stored as ONNX
Runtime's MatMulNBits.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from ..rounding.gptq import block_grid, round_gptq
from .graph import Graph


def pack_nbits(
    levels: NDArray[np.uint8], zero: NDArray[np.float32], block: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """MatMulNBits' layout: weights (N, K / block, block / 2), zero points (N, ceil(K / block / 2)), low nibble first."""
    k, n = levels.shape
    rows = levels.T.reshape(n, k // block, block)
    packed = rows[..., 0::2] | (rows[..., 1::2] << 4)
    zeros = zero.T.astype(np.uint8)
    if zeros.shape[1] % 2:
        zeros = np.pad(zeros, ((0, 0), (0, 1)))
    return np.ascontiguousarray(packed), np.ascontiguousarray(zeros[:, 0::2] | (zeros[:, 1::2] << 4))


def to_four_bit(graph: Graph, hessians: dict[str, NDArray[np.float32]], block: int) -> list[str]:
    """Replace every linear layer whose input width `block` divides, in place; returns the names of those left alone."""
    graph.use_domain("com.microsoft")
    replacements: dict[str, list[onnx.NodeProto]] = {}
    left: list[str] = []
    for linear in graph.linears():
        weight = graph.array(linear.weight).astype(np.float32)
        k, n = weight.shape
        if k % block:
            left.append(linear.name)
            continue
        hessian = hessians[linear.source]
        scale, zero = block_grid(weight, block, np.maximum(np.diag(hessian), 1e-12))
        levels = round_gptq(weight, hessian, scale, zero, block)
        packed, zeros = pack_nbits(levels, zero, block)
        base = linear.weight
        node = helper.make_node(
            "MatMulNBits",
            [
                linear.source,
                graph.set_weight(f"{base}.q4", packed),
                graph.set_weight(f"{base}.q4_scale", scale.T.ravel()),
                graph.set_weight(f"{base}.q4_zero", zeros.ravel()),
            ],
            list(linear.node.output), linear.name, domain="com.microsoft", K=k, N=n, bits=4, block_size=block,
        )  # fmt: skip
        replacements[linear.name] = [node]
    graph.replace(replacements)
    return left
