"""Run a full-precision tower over calibration inputs and gather what the recipes need to know of its activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ..runtime.session import OrtSession
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
    probe = graph.copy()
    outputs: list[str] = []
    nodes = probe.model.graph.node
    for index, name in enumerate(names):
        nodes.append(helper.make_node("Shape", [name], [f"calibrate/shape{index}"], start=-1))
        nodes.append(
            helper.make_node("Concat", ["calibrate/rest", f"calibrate/shape{index}"], [f"calibrate/to{index}"], axis=0)
        )
        nodes.append(helper.make_node("Reshape", [name, f"calibrate/to{index}"], [f"calibrate/flat{index}"]))
        for op in ("ReduceMin", "ReduceMax"):
            out = f"calibrate/{op}{index}"
            nodes.append(helper.make_node(op, [f"calibrate/flat{index}", "calibrate/axis"], [out], keepdims=0))
            outputs.append(out)
    probe.set_weight("calibrate/rest", np.array([-1], np.int64))
    probe.set_weight("calibrate/axis", np.array([0], np.int64))
    session = OrtSession(probe.with_outputs(outputs), device="cpu")
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
    """X.T @ X / rows of each tensor's rows X over all inputs, (C, C) float32: the Hessian of a layer's squared error."""
    names = list(dict.fromkeys(tensors))
    session = OrtSession(graph.with_outputs(names), device="cpu")
    totals: dict[str, NDArray[np.float32]] = {}
    rows: dict[str, int] = dict.fromkeys(names, 0)
    for batch in inputs:
        for name, value in zip(names, session.run(names, {input_name(graph): batch}), strict=True):
            flat = value.reshape(-1, value.shape[-1]).astype(np.float32)
            totals[name] = totals.get(name, np.float32(0)) + flat.T @ flat
            rows[name] += len(flat)
    return {name: (total / max(rows[name], 1)).astype(np.float32) for name, total in totals.items()}


def greatest_magnitudes(graph: Graph, inputs: Sequence[NDArray[Any]]) -> dict[str, float]:
    """The greatest absolute value that each node's float output took: {node name: value}."""
    types = onnx.shape_inference.infer_shapes(graph.without_weights()).graph.value_info
    floats = {item.name for item in types if item.type.tensor_type.elem_type == TensorProto.FLOAT}
    floats |= {item.name for item in graph.model.graph.output}
    probe = graph.copy()
    outputs: dict[str, str] = {}
    for node in graph.nodes:
        if node.output[0] in floats:
            out = f"calibrate/{node.name}"
            probe.model.graph.node.append(helper.make_node("Abs", [node.output[0]], [out + "/abs"]))
            probe.model.graph.node.append(helper.make_node("ReduceMax", [out + "/abs"], [out], keepdims=0))
            outputs[node.name] = out
    session = OrtSession(probe.with_outputs(outputs.values()), device="cpu")
    greatest = dict.fromkeys(outputs, 0.0)
    for batch in inputs:
        values = session.run(list(outputs.values()), {input_name(graph): batch})
        for name, value in zip(outputs, values, strict=True):
            greatest[name] = max(greatest[name], float(value))
    return greatest
