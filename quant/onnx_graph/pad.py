"""Widen the hidden layer of each MLP with zeros, so that its width fits any block format.

MedSigLIP's 4304 = 16 * 269 is not divisible by 32. A hidden unit with zero weights and bias computes GELU(0) = 0 (CLIP's
x * sigmoid(1.702 x) is 0 there, too) and is multiplied by a zero row, so the result is the same to the bit, up to the order in
which the engine adds zeros.
"""

from __future__ import annotations

import numpy as np
import onnx

from .graph import Graph

MULTIPLE = 256  # the largest block in use (K-quants); 4304 becomes 4352 = 17 * 256


def pad_hidden(graph: Graph, multiple: int = MULTIPLE) -> list[str]:
    """Pad every Linear -> Add -> GELU -> Linear in place; returns the names of the first layers that were widened."""
    linears = {linear.source: linear for linear in graph.linears()}
    by_output = {linear.node.output[0]: linear for linear in graph.linears()}
    widened: list[str] = []
    for node in graph.nodes:
        if node.output[0] not in linears or (source := activated(graph, node)) is None:
            continue
        add = graph.producer(source)
        if add is None or add.op_type != "Add":
            continue
        first = next((by_output[name] for name in add.input if name in by_output), None)
        bias = next((name for name in add.input if name in graph.weights), None)
        second = linears[node.output[0]]
        if first is None or bias is None:
            continue
        up, down = graph.array(first.weight), graph.array(second.weight)
        extra = -up.shape[1] % multiple
        if extra:
            graph.set_weight(first.weight, np.pad(up, ((0, 0), (0, extra))))
            # A bias can be shared between layers that started equal: a name of its own keeps the others as they are.
            own = graph.set_weight(f"{first.name}.padded_bias", np.pad(graph.array(bias), (0, extra)))
            add.input[list(add.input).index(bias)] = own
            graph.set_weight(second.weight, np.pad(down, ((0, extra), (0, 0))))
            widened.append(first.name)
    graph.drop_unused()
    return widened


def activated(graph: Graph, node: onnx.NodeProto) -> str | None:
    """What enters the activation whose last node this is, where it is one that keeps zeros zero: GELU, or x * sigmoid(c x)."""
    if node.op_type == "Gelu":
        return str(node.input[0])
    if node.op_type != "Mul":
        return None
    for source, gate in (node.input, reversed(node.input)):
        sigmoid = graph.producer(gate)
        if sigmoid is None or sigmoid.op_type != "Sigmoid":
            continue
        scaled = graph.producer(sigmoid.input[0])
        if scaled is not None and scaled.op_type == "Mul" and source in scaled.input:
            return str(source)
    return None
