"""Run a full-precision tower over calibration inputs and gather what the recipes need to know of its activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ...runtime.device.onnx_session import OrtSession
from ..rounding.outer_products import mean_products
from .graph import Graph


@dataclass(frozen=True)
class Ranges:
    """Of one tensor over all calibration inputs: extremes of each channel (the last axis), (C,) float32."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def absmax(self) -> NDArray[np.float32]:
        return np.maximum(np.abs(self.low), np.abs(self.high))


def input_name(graph: Graph) -> str:
    return str(graph.model.graph.input[0].name)


def channel_ranges(graph: Graph, inputs: Sequence[NDArray[Any]], tensors: Iterable[str]) -> dict[str, Ranges]:
    """Least and greatest value of each channel of these tensors.

    The reduction happens inside the graph, so that a full-size tower needs no memory for its activations' copies.
    """
    names = list(dict.fromkeys(tensors))
    outputs: list[str] = []
    nodes = [_constant("calibrate/rest", [-1]), _constant("calibrate/axis", [0])]
    for index, name in enumerate(names):
        shape, target, flat = (f"calibrate/{part}{index}" for part in ("shape", "to", "flat"))
        nodes += [
            helper.make_node("Shape", [name], [shape], start=-1),
            helper.make_node("Concat", ["calibrate/rest", shape], [target], axis=0),
            helper.make_node("Reshape", [name, target], [flat]),
        ]
        for op in ("ReduceMin", "ReduceMax"):
            nodes.append(helper.make_node(op, [flat, "calibrate/axis"], [f"calibrate/{op}{index}"], keepdims=0))
            outputs.append(f"calibrate/{op}{index}")
    session = OrtSession(graph.with_outputs(outputs, nodes), device="cpu")
    low: dict[str, NDArray[np.float32]] = {}
    high: dict[str, NDArray[np.float32]] = {}
    for batch in inputs:
        values = session.run(outputs, {input_name(graph): batch})
        for name, least, most in zip(names, values[::2], values[1::2], strict=True):
            low[name] = np.minimum(low.get(name, least), least)
            high[name] = np.maximum(high.get(name, most), most)
    return {name: Ranges(low[name], high[name]) for name in names}


def second_moments(
    graph: Graph, inputs: Sequence[NDArray[Any]], tensors: Iterable[str]
) -> dict[str, NDArray[np.float32]]:
    """`mean_products` of these tensors over all inputs."""
    names = list(dict.fromkeys(tensors))
    session = OrtSession(graph.with_outputs(names), device="cpu")
    found = (session.run(names, {input_name(graph): batch}) for batch in inputs)
    return mean_products(dict(zip(names, values, strict=True)) for values in found)


# These move or bound values and make no greater ones; the attention weights alone are 64 MB a layer at full size.
_NO_NEW_VALUES = frozenset({"Reshape", "Transpose", "Split", "Squeeze", "Unsqueeze", "Gather", "Softmax", "Tile"})


def greatest_magnitudes(graph: Graph, inputs: Sequence[NDArray[Any]]) -> dict[str, float]:
    """The greatest absolute value that the float output of each computing node took: {node name: value}."""
    types = onnx.shape_inference.infer_shapes(graph.without_weights()).graph.value_info
    floats = {item.name for item in types if item.type.tensor_type.elem_type == TensorProto.FLOAT}
    floats |= {item.name for item in graph.model.graph.output}
    watched = [n for n in graph.nodes if n.output[0] in floats and n.op_type not in _NO_NEW_VALUES]
    outputs: list[str] = []
    nodes: list[onnx.NodeProto] = []
    for node in watched:
        for op in ("ReduceMin", "ReduceMax"):
            outputs.append(f"calibrate/{op}/{node.name}")
            nodes.append(helper.make_node(op, [node.output[0]], [outputs[-1]], keepdims=0))
    session = OrtSession(graph.with_outputs(outputs, nodes), device="cpu")
    greatest = dict.fromkeys((node.name for node in watched), 0.0)
    for batch in inputs:
        values = session.run(outputs, {input_name(graph): batch})
        for node, low, high in zip(watched, values[::2], values[1::2], strict=True):
            greatest[node.name] = max(greatest[node.name], abs(float(low)), abs(float(high)))
    return greatest


def _constant(name: str, values: list[int]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value_ints=values)
