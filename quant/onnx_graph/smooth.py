"""Move activation outliers into the weights before 8-bit quantization (SmoothQuant, Xiao et al. 2023).

Where a LayerNorm feeds linear layers, its channels can be divided by s and the layers' rows multiplied by s without
changing the function. s balances the ranges of both sides: s = max|x|^a / max|w|^(1-a), per channel.
"""

from __future__ import annotations

import numpy as np

from .calibrate import Ranges
from .graph import Graph


def norm_outputs(graph: Graph) -> dict[str, list[str]]:
    """Tensors that a LayerNorm writes and only constant matrices read: {tensor: the linear layers' weights}."""
    readers: dict[str, list[str]] = {}
    for linear in graph.linears():
        readers.setdefault(linear.source, []).append(linear.weight)
    return {
        node.output[0]: readers[node.output[0]]
        for node in graph.nodes
        if node.op_type == "LayerNormalization"
        and len(readers.get(node.output[0], ())) == sum(1 for _ in graph.readers(node.output[0])) > 0
    }


def smooth(graph: Graph, ranges: dict[str, Ranges], strength: float) -> int:
    """Fold the scales into the norms and the weights, in place; returns how many norms were changed."""
    changed = 0
    for tensor, weights in norm_outputs(graph).items():
        if tensor not in ranges:
            continue
        norm = graph.producer(tensor)
        assert norm is not None
        activation = np.maximum(ranges[tensor].absmax, 1e-5)
        weight = np.maximum(np.max([np.abs(graph.array(name)).max(axis=1) for name in weights], axis=0), 1e-5)
        scale = (activation**strength / weight ** (1 - strength)).astype(np.float32)
        scale /= np.exp(np.log(scale).mean())  # the mean range stays; only the differences between channels move
        for position, suffix in ((1, "weight"), (2, "bias")):
            # Norms that start equal share one constant in the exported graph: each gets its own.
            own = f"{norm.name}.smoothed_{suffix}"
            graph.set_weight(own, graph.array(norm.input[position]) / scale)
            norm.input[position] = own
        for name in weights:
            graph.set_weight(name, graph.array(name) * scale[:, None])
        changed += 1
    graph.drop_unused()
    return changed
