"""Check an ONNX file before ONNX Runtime sees it: an outline of the graph is read, no weight is.

A bundle's hashes say that a file is the one that was exported, not that whoever exported it meant well. So nothing is passed on
but what medge's own exporter could have written: its operators, weights of the size that their shape says, from this file and
the one data file beside it, and the inputs and outputs that the manifest names. Loops, branches, functions and foreign operators
are no part of that.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from .malformed import MalformedError, mapped
from .protobuf import BYTES, FIXED32, VARINT, Message, Source, Span

MAX_NODES, MAX_WEIGHTS, MAX_DIMENSIONS = 20_000, 20_000, 8
MAX_BYTES = 2 << 30  # of the graph's file; protobuf stops there, and weights lie beside it
EXTERNAL = "_data"  # what the name of the file with the weights ends in

MICROSOFT = "com.microsoft"
# Every operator that the exporter and the recipes write, and the attributes that they give it; tests/runtime/device/
# test_onnx_outline.py collects them from exports of all of them.
OPERATORS: dict[tuple[str, str], frozenset[str]] = {
    ("", name): frozenset(attributes.split())
    for name, attributes in {
        **dict.fromkeys(
            ("Add", "Clip", "Div", "DynamicQuantizeLinear", "Equal", "Expand", "Identity", "Log", "MatMul", "MatMulInteger",
             "Mul", "Pow", "QuantizeLinear", "Reciprocal", "Sigmoid", "Slice", "Sqrt", "Sub", "Unsqueeze"), ""
        ),
        **dict.fromkeys(("Concat", "DequantizeLinear", "Gather", "GatherElements", "Softmax", "Split"), "axis"),
        **dict.fromkeys(("ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum"), "keepdims noop_with_empty_axes"),
        "ArgMax": "axis keepdims select_last_index",
        "Cast": "to",
        "Conv": "auto_pad dilations group kernel_shape pads strides",
        "Gelu": "approximate",
        "LayerNormalization": "axis epsilon stash_type",
        "Reshape": "allowzero",
        "Shape": "end start",
        "TopK": "axis largest sorted",
        "Transpose": "perm",
    }.items()
} | {(MICROSOFT, "MatMulNBits"): frozenset({"K", "N", "bits", "block_size"})}  # fmt: skip

FLOAT, INT64 = 1, 7
ITEM_BYTES = {FLOAT: 4, 2: 1, 3: 1, INT64: 8, 10: 2}  # TensorProto.DataType: those, and U8, S8 and F16
# Whole numbers in a short weight are shapes, axes and places. A greater one would ask for more memory than there is; only a slice
# that goes to the end says it by the greatest number of all.
MAX_NUMBER, TO_THE_END = 1 << 20, (1 << 63) - 1

_STRING_STRING = Message("property", {1: ("key", BYTES, False), 2: ("value", BYTES, False)})
_TENSOR = Message("weight", {
    1: ("dims", VARINT, True), 2: ("data_type", VARINT, False), 8: ("name", BYTES, False), 9: ("raw_data", BYTES, False),
    13: ("external_data", BYTES, True), 14: ("data_location", VARINT, False),
})  # fmt: skip
_ATTRIBUTE = Message("attribute", {
    1: ("name", BYTES, False), 2: ("f", FIXED32, False), 3: ("i", VARINT, False), 4: ("s", BYTES, False),
    8: ("ints", VARINT, True), 20: ("type", VARINT, False),
})  # fmt: skip
_NODE = Message("node", {
    1: ("input", BYTES, True), 2: ("output", BYTES, True), 3: ("name", BYTES, False), 4: ("op_type", BYTES, False),
    5: ("attribute", BYTES, True), 7: ("domain", BYTES, False),
})  # fmt: skip
_GRAPH = Message("graph", {
    1: ("node", BYTES, True), 2: ("name", BYTES, False), 5: ("initializer", BYTES, True), 11: ("input", BYTES, True),
    12: ("output", BYTES, True),
})  # fmt: skip
_OPSET = Message("operator set", {1: ("domain", BYTES, False), 2: ("version", VARINT, False)})
_MODEL = Message("model", {
    1: ("ir_version", VARINT, False), 2: ("producer_name", BYTES, False), 3: ("producer_version", BYTES, False),
    6: ("doc_string", BYTES, False), 7: ("graph", BYTES, False), 8: ("opset_import", BYTES, True),
})  # fmt: skip
_VALUE = Message("graph input or output", {1: ("name", BYTES, False), 2: ("type", BYTES, False)})
_TYPE = Message("type", {1: ("tensor_type", BYTES, False)})
_TENSOR_TYPE = Message("tensor type", {1: ("elem_type", VARINT, False), 2: ("shape", BYTES, False)})
_SHAPE = Message("shape", {1: ("dim", BYTES, True)})
_DIM = Message("dimension", {1: ("dim_value", VARINT, False), 2: ("dim_param", BYTES, False)})

BATCH = None  # a dimension of any length
Shape = tuple[int | None, ...]
Ends = dict[str, tuple[int, Shape]]  # {name: (type, shape)} of a graph's inputs or outputs


@dataclass(frozen=True)
class Interface:
    """How a graph is called, as the manifest says it.

    Attributes:
        inputs: all of them: {name: (TensorProto.DataType, shape)}; None stands for a dimension of any length.
        outputs: those that are read: {name: shape}, in float32.
        opset: of its operators.
        batch_invariant: whether it is said to give of a batch what it gives of single inputs.
    """

    inputs: Mapping[str, tuple[int, Shape]]
    outputs: Mapping[str, Shape]
    opset: int
    batch_invariant: bool = False


@dataclass(frozen=True)
class Outline:
    """What a file holds.

    Attributes:
        inputs, outputs: {name: (type, shape)}.
        operators: (domain, name) of every node, in order.
        opsets: {domain: version}.
        weights: bytes of all of them.
    """

    inputs: Ends
    outputs: Ends
    operators: tuple[tuple[str, str], ...]
    opsets: Mapping[str, int]
    weights: int


def check_onnx(path: Path, interface: Interface | None = None) -> Outline:
    """Check a file.

    Args:
        path: the file; its weights may lie in `<its name>_data` beside it.
        interface: how it will be called.

    Raises:
        BundleError: it can't be read, or is none that medge could have written; one sentence says why.
    """
    with mapped(path, "ONNX", "ONNX") as data:
        outline = _Reader(path, Source(data)).outline()
        if interface is not None:
            _compare(outline, interface)
    return outline


class _Reader:
    def __init__(self, path: Path, source: Source) -> None:
        self.path, self.source = path, source
        self.places: list[Span] = []

    def outline(self) -> Outline:
        if self.source.size > MAX_BYTES:
            raise MalformedError(f"it has {self.source.size:,} bytes, more than a graph may")
        model = self.source.message(_MODEL, (0, self.source.size))
        if "graph" not in model:
            raise MalformedError("it holds no graph")
        opsets = {}
        for span in model.get("opset_import", ()):
            found = self.source.message(_OPSET, span)
            domain = self._text(found, "domain")
            if domain not in ("", MICROSOFT) or domain in opsets:
                raise MalformedError(f"operators of {domain!r}, which medge does not use so")
            opsets[domain] = int(found.get("version", 0))
        graph = self.source.message(_GRAPH, model["graph"])
        nodes, weights = graph.get("node", []), graph.get("initializer", [])
        if len(nodes) > MAX_NODES or len(weights) > MAX_WEIGHTS:
            raise MalformedError(f"a graph of {len(nodes):,} nodes and {len(weights):,} weights")
        ends = [dict(map(self._value, graph.get(key, ()))) for key in ("input", "output")]
        operators = tuple(map(self._node, nodes))
        if foreign := {domain for domain, _ in operators} - set(opsets):
            raise MalformedError(f"operators of {foreign.pop()!r} without their version")
        total = sum(map(self._weight, weights))
        self._check_external()
        return Outline(ends[0], ends[1], operators, opsets, total)

    def _text(self, message: Mapping[str, Any], field: str) -> str:
        return self.source.text(message[field]) if field in message else ""

    def _node(self, span: Span) -> tuple[str, str]:
        node = self.source.message(_NODE, span)
        operator = (self._text(node, "domain"), self._text(node, "op_type"))
        allowed = OPERATORS.get(operator)
        if allowed is None:
            raise MalformedError(f"the operator {'/'.join(filter(None, operator))!r}, which medge never writes")
        for place in node.get("attribute", ()):
            name = self._text(self.source.message(_ATTRIBUTE, place), "name")
            if name not in allowed:
                raise MalformedError(f"the attribute {name!r} of {operator[1]}, which medge never writes")
        return operator

    def _weight(self, span: Span) -> int:
        tensor = self.source.message(_TENSOR, span)
        name, dims = self._text(tensor, "name"), tensor.get("dims", [])
        kind = tensor.get("data_type", 0)
        if kind not in ITEM_BYTES:
            raise MalformedError(f"the weight {name!r} is of the type {kind}, which medge never writes")
        if len(dims) > MAX_DIMENSIONS or not all(0 < size < 1 << 40 for size in dims):
            raise MalformedError(f"the weight {name!r} has the shape {dims}")
        size = prod(dims) * ITEM_BYTES[kind]
        if tensor.get("data_location", 0) == 1:
            if "raw_data" in tensor:
                raise MalformedError(f"the weight {name!r} lies in two places")
            begin, end = self._external(name, tensor.get("external_data", ()))
        elif "external_data" in tensor or tensor.get("data_location"):
            raise MalformedError(f"the weight {name!r} lies in two places")
        else:
            begin, end = tensor.get("raw_data", (0, 0))
        if end - begin != size:
            raise MalformedError(f"the weight {name!r} has {end - begin:,} bytes, its shape {dims} takes {size:,}")
        if kind == INT64 and prod(dims) <= MAX_DIMENSIONS and "raw_data" in tensor:
            numbers = struct.unpack(f"<{prod(dims)}q", self.source.data[begin:end])
            if any(abs(number) > MAX_NUMBER and number != TO_THE_END for number in numbers):
                raise MalformedError(f"the weight {name!r} asks for a length of {max(map(abs, numbers)):,}")
        return size

    def _external(self, weight: str, places: Sequence[Span]) -> Span:
        """Where a weight lies in the file beside; nothing of that file is read."""
        entries: dict[str, str] = {}
        for place in places:
            found = self.source.message(_STRING_STRING, place)
            key = self._text(found, "key")
            if key in entries:
                raise MalformedError(f"the weight {weight!r} has two of {key!r}")
            entries[key] = self._text(found, "value")
        wanted = self.path.name + EXTERNAL
        numbers = [entries.get("offset", "0"), entries.get("length", "")]
        if entries.get("location") != wanted or not all(text.isascii() and text.isdigit() for text in numbers):
            raise MalformedError(
                f"the weight {weight!r} lies in {entries.get('location')!r}, where {wanted!r} is the only place"
            )
        if set(entries) - {"location", "offset", "length"} or max(map(len, numbers)) > 18:
            raise MalformedError(f"the weight {weight!r} lies at a wrong place of {wanted!r}")
        offset, length = map(int, numbers)
        self.places.append((offset, offset + length))
        return offset, offset + length

    def _check_external(self) -> None:
        if not self.places:
            return
        data = self.path.with_name(self.path.name + EXTERNAL)
        if data.is_symlink() or not data.is_file():
            raise MalformedError(f"{data.name}, which holds its weights, is missing or no plain file")
        places = sorted(self.places)
        if places[-1][1] > data.stat().st_size:
            raise MalformedError(f"{data.name} ends before its weights do")
        if any(before[1] > after[0] for before, after in pairwise(places)):
            raise MalformedError(f"weights lie on each other in {data.name}")

    def _value(self, span: Span) -> tuple[str, tuple[int, Shape]]:
        value = self.source.message(_VALUE, span)
        kind = self.source.message(_TYPE, value.get("type", (0, 0)))
        tensor = self.source.message(_TENSOR_TYPE, kind.get("tensor_type", (0, 0)))
        shape = self.source.message(_SHAPE, tensor.get("shape", (0, 0)))
        dims = [self.source.message(_DIM, place) for place in shape.get("dim", ())]
        lengths = tuple(dim.get("dim_value", BATCH) for dim in dims)
        return self._text(value, "name"), (tensor.get("elem_type", 0), lengths)


def _compare(outline: Outline, interface: Interface) -> None:
    if outline.inputs != dict(interface.inputs):
        raise MalformedError(f"it takes {_ends(outline.inputs)}, the manifest says {_ends(interface.inputs)}")
    wanted = {name: (FLOAT, shape) for name, shape in interface.outputs.items()}
    if wanted.items() - outline.outputs.items():
        raise MalformedError(f"it gives {_ends(outline.outputs)}, the manifest says {_ends(wanted)}")
    if outline.opsets.get("") != interface.opset:
        raise MalformedError(f"its operator set is {outline.opsets.get('')}, the manifest says {interface.opset}")
    # One scale for all that comes in: what stands beside an input in a batch changes its result.
    if interface.batch_invariant and ("", "DynamicQuantizeLinear") in outline.operators:
        raise MalformedError("it quantizes a batch as a whole, the manifest says that it gives what single inputs give")


def _ends(ends: Mapping[str, tuple[int, Shape]]) -> str:
    return ", ".join(
        f"{name!r} {'x'.join('?' if size is None else str(size) for size in shape)} of type {kind}"
        for name, (kind, shape) in ends.items()
    )
