"""Widen the hidden layer of each MLP with zeros, so that its width fits blocks; why that is exact says `onnx_graph/pad.py`."""

from __future__ import annotations

import numpy as np

from .graph import Graph, schema

KEEPS_ZERO = schema.BuiltinOperator.GELU


def pad_hidden(graph: Graph, multiple: int) -> int:
    """Pad every linear layer, GELU, linear layer in place; returns how many pairs were widened."""
    by_output = {int(linear.operator.outputs[0]): linear for linear in graph.linears()}
    by_source = {linear.source: linear for linear in graph.linears()}
    widened = 0
    for operator in graph.operators:
        if graph.kind(operator) != KEEPS_ZERO:
            continue
        entering, leaving = int(operator.inputs[0]), int(operator.outputs[0])
        first, second = by_output.get(entering), by_source.get(leaving)
        if first is None or second is None or len(graph.readers(leaving)) != 1 or len(graph.readers(entering)) != 1:
            continue
        up, down = graph.array(first.weight), graph.array(second.weight)
        extra = -len(up) % multiple
        if not extra:
            continue
        bias = int(first.operator.inputs[2])
        graph.set_value(first.weight, np.pad(up, ((0, extra), (0, 0))), schema.TensorType.FLOAT32)
        graph.set_value(bias, np.pad(graph.array(bias), (0, extra)), schema.TensorType.FLOAT32)
        graph.set_value(second.weight, np.pad(down, ((0, 0), (0, extra))), schema.TensorType.FLOAT32)
        for tensor in (entering, leaving):
            graph.set_shape(tensor, (*graph.shape(tensor)[:-1], len(up) + extra))
        widened += 1
    return widened
