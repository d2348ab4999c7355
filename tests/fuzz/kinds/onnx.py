"""ONNX files: nodes, attributes, initializers, inputs and outputs, external data, and bytes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from ..base import ENCODER, ONNX_READER
from ..bundles import EDITORS, case_bytes, file_of, run_case
from ..mutate import byte_edits
from ..verdict import Kind
from . import manifest

_OPS = ("Loop", "If", "Scan", "Identity", "Expand", "ConstantOfShape", "Tile", "Gather", "Neg", "Relu", "NotAnOp", "",
    "RandomNormal",
        "Sqrt", "Transpose", "Resize", "NonZero", "Attention", "FusedMatMul")  # fmt: skip
_PLACES = (
    "../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "/dev/stdin",
    "missing.bin",
    "",
    ".",
    "../manifest.json",
    "manifest.json",
    "a" * 5000,
)
_NAMES = ("x", "", "pooler_output", "\x1b[31m", "last_hidden_state", "a" * 3000)
_INTS = (0, -1, 1, 2, 7, 2**31, 2**62, -(2**63))


def make(rng: random.Random, base: Path) -> bytes:
    import onnx

    bundle, role = rng.choice(((ENCODER, "vision"), (ENCODER, "vision"), (ENCODER, "text"), (ONNX_READER, "projector")))
    name = file_of(base, bundle, role)
    data = (base / bundle / name).read_bytes()
    if rng.random() < 0.25:
        return case_bytes(bundle, name, "bytes", byte_edits(rng, data, head=3000))
    graph = onnx.load_from_string(data).graph
    return case_bytes(bundle, name, "onnx", [_edit(rng, graph) for _ in range(rng.choice((1, 1, 1, 2)))])


def _edit(rng: random.Random, graph: Any) -> list[Any]:
    node = rng.randrange(len(graph.node))
    tensor = rng.randrange(len(graph.initializer))
    action = rng.choice(("op", "domain", "input", "output", "delete node", "twice", "attribute", "attribute", "dims",
        "dtype", "external",
                         "external", "data", "data", "delete tensor", "rename tensor", "graph input", "graph output",
                         "opset", "ir", "bomb",
                         "endless", "custom", "function", "order", "value info"))  # fmt: skip
    if action in ("op", "domain"):
        return [
            action,
            node,
            rng.choice(_OPS) if action == "op" else rng.choice(("", "com.microsoft", "evil", "ai.onnx.ml")),
        ]
    if action in ("input", "output"):
        names = [name for other in graph.node for name in (*other.input, *other.output)]
        return [action, node, rng.randrange(4), rng.choice((rng.choice(names), *_NAMES))]
    if action in ("delete node", "twice", "order"):
        return [action, node, rng.randrange(len(graph.node))]
    if action == "attribute":
        return [
            action,
            node,
            rng.randrange(4),
            rng.choice((rng.choice(_INTS), rng.choice((0.0, -1.0, 1e30, float("nan"))), "x")),
        ]
    if action == "dims":
        old = list(graph.initializer[tensor].dims)
        return [
            action,
            tensor,
            rng.choice(
                (
                    [*old, 1],
                    [*old, 2],
                    old[:-1],
                    [0],
                    [-1],
                    [2**40],
                    [2**62, 2**62],
                    [n + 1 for n in old],
                    list(reversed(old)),
                )
            ),
        ]
    if action == "dtype":
        return [action, tensor, rng.choice((0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 16, 17, 21, 22, 99))]
    if action == "external":
        return [
            action,
            tensor,
            rng.choice(_PLACES),
            rng.choice((None, "0", "-1", "4096", "x")),
            rng.choice((None, "0", "99999999999", "-5")),
        ]
    if action == "data":
        return [action, tensor, rng.choice(("nan", "inf", "zero", "noise")), rng.randrange(1 << 30)]
    if action in ("delete tensor", "rename tensor"):
        return [action, tensor, rng.choice(_NAMES)]
    if action in ("graph input", "graph output"):
        return [
            action,
            rng.choice(("rename", "delete", "type", "dim", "more")),
            rng.choice(_NAMES),
            rng.choice((0, 1, 7, 10, 16)),
            rng.choice(_INTS),
        ]
    if action in ("opset", "ir"):
        return [action, rng.choice((0, 1, 7, 11, 13, 18, 25, 99, -1, 2**62))]
    if action == "bomb":
        return [
            action,
            rng.choice(([2**31], [1 << 20, 1 << 12], [2**40], [40000, 40000])),
            rng.randrange(len(graph.node)),
        ]
    return [action, node]


def edit(data: bytes, edits: list[Any]) -> bytes:
    """Make the changes of a case."""
    import onnx

    model = onnx.load_from_string(data)
    for change in edits:
        try:
            _apply(model, change)
        except (IndexError, ValueError, TypeError):
            continue
    made: bytes = model.SerializeToString()
    return made


def _apply(model: Any, change: list[Any]) -> None:
    action, where, *rest = change
    graph = model.graph
    if action in _NODE:
        _apply_node(graph, action, where, rest)
    elif action in _TENSOR:
        _apply_tensor(graph, graph.initializer[where], action, rest)
    elif action in ("graph input", "graph output"):
        _apply_value(graph.input if action == "graph input" else graph.output, where, rest)
    elif action == "opset":
        model.opset_import[0].version = where
    elif action == "ir":
        model.ir_version = where
    elif action == "value info":
        for value in graph.value_info[:5]:
            value.type.tensor_type.elem_type = 7
    else:
        _add(model, action, where, rest)


_NODE = frozenset({"op", "domain", "input", "output", "delete node", "twice", "attribute", "order"})
_TENSOR = frozenset({"dims", "dtype", "external", "data", "delete tensor", "rename tensor"})


def _apply_node(graph: Any, action: str, where: int, rest: list[Any]) -> None:
    node = graph.node[where]
    if action == "op":
        node.op_type = rest[0]
    elif action == "domain":
        node.domain = rest[0]
    elif action in ("input", "output"):
        (node.input if action == "input" else node.output)[rest[0]] = rest[1]
    elif action == "delete node":
        del graph.node[where]
    elif action == "twice":
        graph.node.add().CopyFrom(node)
    elif action == "order":
        kept = [type(node)() for _ in range(2)]
        kept[0].CopyFrom(node)
        kept[1].CopyFrom(graph.node[rest[0]])
        graph.node[where].CopyFrom(kept[1])
        graph.node[rest[0]].CopyFrom(kept[0])
    else:
        attribute, value = node.attribute[rest[0]], rest[1]
        if isinstance(value, str):
            attribute.type, attribute.s = 3, value.encode()
        elif isinstance(value, float):
            attribute.type, attribute.f = 1, value
        elif attribute.ints:
            attribute.ints[0] = value
        else:
            attribute.type, attribute.i = 2, value


def _apply_tensor(graph: Any, tensor: Any, action: str, rest: list[Any]) -> None:
    if action == "dims":
        del tensor.dims[:]
        tensor.dims.extend(rest[0])
    elif action == "dtype":
        tensor.data_type = rest[0]
    elif action == "external":
        tensor.data_location = 1
        tensor.ClearField("raw_data")
        for key, value in zip(("location", "offset", "length"), rest, strict=True):
            if value is not None:
                entry = tensor.external_data.add()
                entry.key, entry.value = key, value
    elif action == "delete tensor":
        graph.initializer.remove(tensor)
    elif action == "rename tensor":
        tensor.name = rest[0]
    elif tensor.raw_data:
        size = len(tensor.raw_data)
        if rest[0] == "noise":
            tensor.raw_data = random.Random(rest[1]).randbytes(size)
        else:
            unit = {"nan": b"\0\0\xc0\x7f", "inf": b"\0\0\x80\x7f", "zero": b"\0\0\0\0"}[rest[0]]
            tensor.raw_data = (unit * (size // 4 + 1))[:size]


def _apply_value(values: Any, where: str, rest: list[Any]) -> None:
    name, kind, size = rest
    if where == "rename":
        values[0].name = name
    elif where == "delete":
        del values[0]
    elif where == "type":
        values[0].type.tensor_type.elem_type = kind
    elif where == "dim":
        values[0].type.tensor_type.shape.dim[-1].dim_value = size
    else:
        values.add().CopyFrom(values[0])
        values[-1].name = name or "more"


def _add(model: Any, action: str, where: Any, rest: list[Any]) -> None:
    """Put in what an exporter never writes: a value of gigabytes, a loop without end, an operator or function of one's own."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    if action == "bomb":
        graph.initializer.append(numpy_helper.from_array(np.array(where, np.int64), "bomb_shape"))
        fill = helper.make_node("ConstantOfShape", ["bomb_shape"], ["bomb"])
        total = helper.make_node("ReduceMax", ["bomb"], ["bomb_most"], keepdims=0)
        target = graph.node[rest[0]]
        joined = helper.make_node("Add", [target.output[0], "bomb_most"], [f"{target.output[0]}_bombed"])
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == target.output[0]:
                    node.input[index] = f"{name}_bombed"
        for number, node in enumerate((fill, total, joined)):
            graph.node.insert(rest[0] + 1 + number, node)
    elif action == "endless":
        body = helper.make_graph(
            [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["state"], ["new_state"])], "body",
            [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("go",
                TensorProto.BOOL, []),
             helper.make_tensor_value_info("state", TensorProto.FLOAT, None)],
            [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), helper.make_tensor_value_info("new_state",
                TensorProto.FLOAT, None)],
        )  # fmt: skip
        graph.initializer.append(numpy_helper.from_array(np.array(2**62, np.int64), "times"))
        graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
        last = graph.output[0].name
        for node in graph.node:
            for index, name in enumerate(node.output):
                if name == last:
                    node.output[index] = "before_loop"
        graph.node.append(helper.make_node("Loop", ["times", "always", "before_loop"], [last], body=body))
    elif action == "custom":
        graph.node[where].domain = "my.domain"
        model.opset_import.append(helper.make_opsetid("my.domain", 1))
    else:
        function = helper.make_function(
            "my.domain",
            "F",
            ["x"],
            ["y"],
            [helper.make_node("F", ["x"], ["y"], domain="my.domain")],
            [helper.make_opsetid("my.domain", 1)],
        )
        model.functions.append(function)
        model.opset_import.append(helper.make_opsetid("my.domain", 1))
        node = graph.node[where]
        graph.node.insert(where + 1, helper.make_node("F", [node.output[0]], ["recursive"], domain="my.domain"))


EDITORS["onnx"] = edit


def run(content: bytes, place: Path, base: Path) -> None:
    run_case(content, place, base, lambda case: _may_differ(case, base))


def _may_differ(case: dict[str, Any], base: Path) -> bool:
    """Whether only the values of weights were changed."""
    import onnx
    from google.protobuf.message import DecodeError

    old = (base / case["bundle"] / case["file"]).read_bytes()
    try:
        pair = [onnx.load_from_string(data) for data in (old, EDITORS[case["do"]](old, case["edits"]))]
    except DecodeError:
        return False
    for model in pair:
        for tensor in model.graph.initializer:
            tensor.raw_data = b"\0" * len(tensor.raw_data)
        for node in model.graph.node:  # these say nothing of what it computes
            for field in ("name", "doc_string", "metadata_props"):
                node.ClearField(field)
    same: bool = pair[0].SerializeToString() == pair[1].SerializeToString()
    return same


KIND = Kind(make, run, modules=(*manifest.KIND.modules, "onnx"), share=2)
