"""8-bit weights and activations: scales of activations at run time (dynamic) or from calibration (static).

Weights have one scale per output channel, signed and symmetric or unsigned with a zero point, as the target CPU's
kernels want. The operators are those that ONNX Runtime fuses: DynamicQuantizeLinear + MatMulInteger, and Q/DQ pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from ..rounding.eight_bit import to_8_bit
from .calibrate import Ranges
from .graph import Graph, Linear


def quantize_columns(
    weight: NDArray[np.float32], *, signed: bool
) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[Any]]:
    """Round (K, N) to 8 bits with one scale per column: values (K, N), scale (N,), zero point (N,)."""
    if signed:
        values, scales = to_8_bit(weight, axis=0)
        return values, scales[0], np.zeros(scales.shape[1], np.int8)
    low, high = np.minimum(weight.min(axis=0), 0), np.maximum(weight.max(axis=0), 0)
    scale = np.maximum((high - low) / 255, 1e-12).astype(np.float32)
    zero = np.rint(-low / scale)
    values = np.clip(np.rint(weight / scale) + zero, 0, 255).astype(np.uint8)
    return values, scale, zero.astype(np.uint8)


def _store(graph: Graph, linear: Linear, signed: bool) -> tuple[str, str, str]:
    names = tuple(f"{linear.weight}.{part}" for part in ("quantized", "scale", "zero"))
    if names[0] not in graph.weights:
        arrays = quantize_columns(graph.array(linear.weight).astype(np.float32), signed=signed)
        for name, value in zip(names, arrays, strict=True):
            graph.set_weight(name, value)
    return names  # type: ignore[return-value]


def to_dynamic(graph: Graph, *, signed: bool) -> None:
    """Replace every linear layer, in place; inputs shared by several layers are quantized once."""
    replacements: dict[str, list[NodeProto]] = {}
    quantized: set[str] = set()
    for linear in graph.linears():
        values, scale, zero = _store(graph, linear, signed)
        x = f"{linear.source}/8bit"
        nodes: list[NodeProto] = []
        if linear.source not in quantized:
            quantized.add(linear.source)
            nodes.append(helper.make_node("DynamicQuantizeLinear", [linear.source], [x, f"{x}_scale", f"{x}_zero"], x))
        name = linear.name
        nodes += [
            helper.make_node("MatMulInteger", [x, values, f"{x}_zero", zero], [f"{name}/int32"], f"{name}/integer"),
            helper.make_node("Cast", [f"{name}/int32"], [f"{name}/float"], f"{name}/cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{x}_scale", scale], [f"{name}/scale"], f"{name}/scales"),
            helper.make_node("Mul", [f"{name}/float", f"{name}/scale"], list(linear.node.output), f"{name}/rescale"),
        ]
        replacements[name] = nodes
    graph.replace(replacements)


def to_static(graph: Graph, ranges: dict[str, Ranges], *, signed: bool, skip: frozenset[str] = frozenset()) -> None:
    """Put Q/DQ pairs around every linear layer, in place; activations are U8 with the calibrated range.

    Layers named in `skip` stay in fp32.
    """
    replacements: dict[str, list[NodeProto]] = {}
    done: set[str] = set()
    for linear in graph.linears():
        if linear.name in skip:
            continue
        values, scale, zero = _store(graph, linear, signed)
        x, name = f"{linear.source}/8bit", linear.name
        nodes: list[NodeProto] = []
        if linear.source not in done:
            done.add(linear.source)
            low = min(float(ranges[linear.source].low.min()), 0.0)
            high = max(float(ranges[linear.source].high.max()), 0.0)
            step = max((high - low) / 255, 1e-12)
            graph.set_weight(f"{x}_scale", np.array(step, np.float32))
            graph.set_weight(f"{x}_zero", np.array(round(-low / step), np.uint8))
            nodes.append(helper.make_node("QuantizeLinear", [linear.source, f"{x}_scale", f"{x}_zero"], [x], x))
            nodes.append(
                helper.make_node("DequantizeLinear", [x, f"{x}_scale", f"{x}_zero"], [f"{x}/float"], f"{x}/float")
            )
        nodes += [
            helper.make_node("DequantizeLinear", [values, scale, zero], [f"{name}/weight"], f"{name}/weight", axis=1),
            helper.make_node("MatMul", [f"{x}/float", f"{name}/weight"], list(linear.node.output), name),
        ]
        replacements[name] = nodes
    graph.replace(replacements)


def tables_to_8_bit(graph: Graph) -> None:
    """Store each look-up table (the token embedding) as S8 with one scale per row, in place.

    Only the rows looked up are widened, so the table costs a quarter on disk and in memory.
    """
    replacements: dict[str, list[NodeProto]] = {}
    for node in graph.tables():
        table, index = node.input
        levels, scale = to_8_bit(graph.array(table).astype(np.float32), axis=1)
        graph.set_weight(f"{table}.quantized", levels)
        graph.set_weight(f"{table}.scale", scale)
        name = node.name
        replacements[name] = [
            helper.make_node("Gather", [f"{table}.quantized", index], [f"{name}/8bit"], f"{name}/8bit", axis=0),
            helper.make_node("Cast", [f"{name}/8bit"], [f"{name}/float"], f"{name}/cast", to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{table}.scale", index], [f"{name}/scale"], f"{name}/scale", axis=0),
            helper.make_node("Mul", [f"{name}/float", f"{name}/scale"], list(node.output), name),
        ]
    graph.replace(replacements)
