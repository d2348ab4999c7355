"""fp16, with the residual stream and the layers that could overflow kept in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto
from onnxruntime.transformers.float16 import convert_float_to_float16

from .calibrate import greatest_magnitudes
from .graph import Graph

FP16_MAX = 65504.0
# A new image may exceed the calibration images' greatest activation; four times is two bits of room.
HEADROOM = 4.0


def unsafe_nodes(graph: Graph, inputs: Sequence[NDArray[Any]]) -> dict[str, float]:
    """Nodes that write, or read, a value too large for fp16 on these inputs: {node name: greatest magnitude}."""
    greatest = greatest_magnitudes(graph, inputs)
    written = {node.output[0]: greatest.get(node.name, 0.0) for node in graph.nodes}
    limit = FP16_MAX / HEADROOM
    found: dict[str, float] = {}
    for node in graph.nodes:
        value = max([written[node.output[0]], *(written.get(name, 0.0) for name in node.input)])
        if value > limit:
            found[node.name] = value
    return found


def residual_nodes(graph: Graph) -> list[str]:
    """The residual stream: patch embedding, residual additions and norms.

    What is rounded there reaches every later block, and it holds a thousandth of the weights, so fp16 would save nothing.
    """
    return [
        node.name
        for node in graph.nodes
        if node.op_type in {"Conv", "LayerNormalization", "Softmax"}
        or (node.op_type == "Add" and not any(name in graph.weights for name in node.input))
    ]


def to_half(graph: Graph, inputs: Sequence[NDArray[Any]]) -> tuple[Graph, dict[str, Any]]:
    """The graph in fp16 with fp32 inputs and outputs, and which nodes were kept in fp32 and why.

    Weights too large for fp16 keep their node in fp32 as well.
    """
    unsafe = unsafe_nodes(graph, inputs)
    for node in graph.nodes:
        for name in node.input:
            if name in graph.weights and graph.weights[name].data_type == 1:
                weight = graph.array(name)
                if weight.size and (largest := float(np.abs(weight).max())) > FP16_MAX:
                    unsafe[node.name] = max(unsafe.get(node.name, 0.0), largest)
    model = convert_float_to_float16(
        graph.copy().model,
        keep_io_types=True,
        node_block_list=[*unsafe, *residual_nodes(graph)],
        disable_shape_infer=False,
    )
    half = Graph(model)
    _join_casts(half)
    del half.model.graph.value_info[:]  # types by the names of before
    return half, {
        "kept_in_fp32": {name: round(value, 1) for name, value in unsafe.items()},
        "limit": FP16_MAX / HEADROOM,
    }


def _join_casts(graph: Graph) -> None:
    """Remove every way fp32 -> fp16 -> fp32 between two nodes that were kept in fp32, in place.

    onnxruntime's converter puts casts around each kept node by itself, so that two neighbours still hand their value
    over in fp16: it would be rounded there, or overflow, which is what they were kept for.
    """
    casts = {node.output[0]: node for node in graph.nodes if node.op_type == "Cast"}

    def narrows(name: str) -> bool:
        return name in casts and casts[name].attribute[0].i == TensorProto.FLOAT16

    def widens(node: NodeProto) -> bool:
        return node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT

    source = {
        node.output[0]: casts[node.input[0]].input[0] for node in graph.nodes if widens(node) and narrows(node.input[0])
    }
    inputs = {item.name for item in graph.model.graph.input}
    outputs = {item.name for item in graph.model.graph.output}
    for node in graph.model.graph.node:
        node.input[:] = [source.get(name, name) for name in node.input]
        if (
            node.output[0] in source and node.output[0] in outputs
        ):  # a graph output keeps its name: an Identity gives it
            node.op_type = "Identity"
            node.input[:] = [source[node.output[0]]]
            node.ClearField("attribute")
    while True:
        read = {name for node in graph.nodes for name in node.input} | outputs
        dead = [node for node in graph.nodes if node.op_type == "Cast" and node.output[0] not in read]
        if not dead:
            return
        # The converter gave the cast the name that its source had: give it back, since parity looks for it.
        # A graph input keeps its own: the converter gave its cast a new one.
        names = {n.input[0]: n.output[0] for n in dead if narrows(n.output[0]) and n.input[0] not in inputs}
        graph.replace({node.name: [] for node in dead})
        for node in graph.model.graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
