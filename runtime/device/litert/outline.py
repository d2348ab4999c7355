"""Check a .tflite file before LiteRT sees it: an outline of the model is read, no weight is.

As with ONNX files (`onnx_outline`), nothing is passed on but what medge's own exporter could have written: its operators with
their options, constants of the size that their shape says, inside the file, and the inputs and outputs that the manifest names.
Custom operators, further subgraphs and buffers in other files are no part of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ..malformed import MalformedError, mapped
from .flatbuffer import Kind, Place, Source

MAX_OPERATORS, MAX_TENSORS, MAX_DIMENSIONS = 20_000, 40_000, 8
MAX_TABLES = 500_000
MAX_NUMBERS = 1 << 31  # of a tensor
IDENTIFIER = b"TFL3"
VERSION = 3

FLOAT32, FLOAT16, INT32, INT64, BOOL, INT8, INT4 = 0, 1, 2, 4, 6, 9, 17
BITS = {FLOAT32: 32, FLOAT16: 16, INT32: 32, INT64: 64, BOOL: 8, INT8: 8, INT4: 4}

_ACTIVATED = {0: ("fused_activation", "i8")}
# Every operator that the exporter and the recipes write, by its number in LiteRT's schema: its name, the number of its kind of
# options (0 for none), and these. A test collects them from exports of all of them.
OPERATORS: dict[int, tuple[str, int, Kind]] = {
    0: ("ADD", 11, Kind("sum", {**_ACTIVATED, 1: ("power_of_two", "u8")})),
    3: ("CONV_2D", 1, Kind("convolution", {
        0: ("padding", "i8"), 1: ("stride_w", "i32"), 2: ("stride_h", "i32"), 3: ("fused_activation", "i8"),
        4: ("dilation_w", "i32"), 5: ("dilation_h", "i32"), 6: ("bias_type", "i8"),
    })),
    6: ("DEQUANTIZE", 38, Kind("widening")),
    7: ("EMBEDDING_LOOKUP", 0, Kind("look-up")),
    9: ("FULLY_CONNECTED", 8, Kind("linear layer", {
        **_ACTIVATED, 1: ("weights_format", "i8"), 2: ("keep_dimensions", "u8"), 3: ("asymmetric", "u8"), 4: ("bias_type", "i8"),
    })),
    18: ("MUL", 21, Kind("product", _ACTIVATED)),
    22: ("RESHAPE", 17, Kind("reshape", {0: ("new_shape", "[i32]")})),
    25: ("SOFTMAX", 9, Kind("softmax", {0: ("beta", "f32")})),
    39: ("TRANSPOSE", 26, Kind("transpose")),
    40: ("MEAN", 27, Kind("mean", {0: ("keep_dimensions", "u8")})),
    41: ("SUB", 28, Kind("difference", {**_ACTIVATED, 1: ("power_of_two", "u8")})),
    65: ("SLICE", 48, Kind("slice")),
    76: ("RSQRT", 0, Kind("root")),
    99: ("SQUARED_DIFFERENCE", 76, Kind("squared difference")),
    126: ("BATCH_MATMUL", 101, Kind("matrix product", {
        0: ("adjoint_x", "u8"), 1: ("adjoint_y", "u8"), 2: ("asymmetric", "u8"),
    })),
    150: ("GELU", 116, Kind("gelu", {0: ("approximate", "u8")})),
}  # fmt: skip

_BLOCKWISE, _BLOCKWISE_TYPE = Kind("grid of blocks", {0: ("scales", "i32"), 1: ("zeros", "i32"), 2: ("size", "i32")}), 2
_QUANTIZATION = Kind("grid", {
    2: ("scale", "[f32]"), 3: ("zero", "[i64]"), 4: ("details_type", "u8"), 5: ("details", "union"), 6: ("dimension", "i32"),
})  # fmt: skip
_TENSOR = Kind("tensor", {
    0: ("shape", "[i32]"), 1: ("type", "i8"), 2: ("buffer", "u32"), 3: ("name", "text"), 4: ("quantization", _QUANTIZATION),
    8: ("has_rank", "u8"),
})  # fmt: skip
_OPERATOR = Kind("operator", {
    0: ("code", "u32"), 1: ("inputs", "[i32]"), 2: ("outputs", "[i32]"), 3: ("options_type", "u8"), 4: ("options", "union"),
})  # fmt: skip
_SUBGRAPH = Kind("graph", {
    0: ("tensors", (_TENSOR,)), 1: ("inputs", "[i32]"), 2: ("outputs", "[i32]"), 3: ("operators", (_OPERATOR,)),
    4: ("name", "text"),
})  # fmt: skip
_CODE = Kind("kind of operator", {0: ("deprecated", "i8"), 2: ("version", "i32"), 3: ("builtin", "i32")})
_BUFFER = Kind("buffer", {0: ("data", "[u8]")})
_METADATA = Kind("metadata", {0: ("name", "text"), 1: ("buffer", "u32")})
_END = Kind("end", {0: ("name", "text"), 1: ("tensor", "u32")})
_SIGNATURE = Kind("signature", {0: ("inputs", (_END,)), 1: ("outputs", (_END,)), 2: ("key", "text")})
_MODEL = Kind("model", {
    0: ("version", "u32"), 1: ("codes", (_CODE,)), 2: ("subgraphs", (_SUBGRAPH,)), 3: ("description", "text"),
    4: ("buffers", (_BUFFER,)), 6: ("metadata", (_METADATA,)), 7: ("signatures", (_SIGNATURE,)),
})  # fmt: skip

End = tuple[int, tuple[int, ...]]  # type and shape of an input or output


@dataclass(frozen=True)
class Called:
    """How a model is called, as the manifest says it: {name: (TensorType, shape)} of its inputs and of its outputs."""

    inputs: Mapping[str, End]
    outputs: Mapping[str, End]


@dataclass(frozen=True)
class Outline:
    """What a file holds.

    Attributes:
        inputs, outputs: of its signature.
        operators: name of every operator, in order.
        constants: bytes of all of them.
    """

    inputs: dict[str, End]
    outputs: dict[str, End]
    operators: tuple[str, ...]
    constants: int


def check_litert(path: Path, called: Called | None = None) -> Outline:
    """Check a file.

    Args:
        path: the file.
        called: how it will be called.

    Raises:
        BundleError: it can't be read, or is none that medge could have written; one sentence says why.
    """
    with mapped(path, "LiteRT", "a LiteRT file") as data:
        outline = _Reader(Source(data, MAX_TABLES)).outline()
        if called is not None:
            for what, found, wanted in (
                ("takes", outline.inputs, called.inputs), ("gives", outline.outputs, called.outputs),
            ):  # fmt: skip
                if found != dict(wanted):
                    raise MalformedError(f"it {what} {_ends(found)}, the manifest says {_ends(wanted)}")
    return outline


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source

    def outline(self) -> Outline:
        if self.source.data[4:8] != IDENTIFIER:
            raise MalformedError("it does not begin as one")
        model = self.source.root(_MODEL)
        if (
            model.get("version") != VERSION
            or len(model.get("subgraphs", ())) != 1
            or len(model.get("signatures", ())) != 1
        ):
            raise MalformedError("it has not one graph and one signature of version 3")
        (graph,), (signature,) = model["subgraphs"], model["signatures"]
        tensors, operators = graph.get("tensors", []), graph.get("operators", [])
        if len(tensors) > MAX_TENSORS or len(operators) > MAX_OPERATORS:
            raise MalformedError(f"a graph of {len(operators):,} operators and {len(tensors):,} tensors")
        self.buffers: list[Place | None] = [buffer.get("data") for buffer in model.get("buffers", ())]
        self.kinds = [self._kind(code) for code in model.get("codes", ())]
        self.tensors = [self._tensor(tensor) for tensor in tensors]
        sizes = [self._constant(tensor, end) for tensor, end in zip(tensors, self.tensors, strict=True)]
        self.constants = {index for index, size in enumerate(sizes) if size}
        for tensor in tensors:
            self._grid(tensor.get("quantization", {}))
        for entry in model.get("metadata", ()):
            self._within(entry.get("buffer", 0), self.buffers, "buffer")
        ends = [self._ends(graph, signature, key) for key in ("inputs", "outputs")]
        names = self._run_order(operators, {end for end in self._indices(graph, "inputs")})
        return Outline(ends[0], ends[1], names, sum(sizes))

    def _within(self, index: int, items: Any, what: str) -> int:
        if not 0 <= index < len(items):
            raise MalformedError(f"the {what} {index:,} of {len(items):,}")
        return index

    def _kind(self, code: Mapping[str, int]) -> int:
        builtin, first = code.get("builtin", 0), code.get("deprecated", 0)
        number = max(builtin, first)  # engines take the greater of the two
        if number not in OPERATORS or first != min(number, 127) or (builtin and builtin != number):
            raise MalformedError(f"the operator {number}, which medge does not use so")
        return number

    def _tensor(self, tensor: Mapping[str, Any]) -> End:
        kind, shape = tensor.get("type", 0), self.source.numbers("i32", tensor.get("shape"))
        if kind not in BITS or len(shape) > MAX_DIMENSIONS or min(shape, default=1) < 1 or prod(shape) > MAX_NUMBERS:
            raise MalformedError(f"the tensor {tensor.get('name', '')!r} of type {kind} and shape {shape}")
        return kind, shape

    def _constant(self, tensor: Mapping[str, Any], end: End) -> int:
        """Bytes of a constant, 0 for what is computed."""
        data = self.buffers[self._within(tensor.get("buffer", 0), self.buffers, "buffer")]
        if data is None or not data.count:
            return 0
        size = -(-prod(end[1]) * BITS[end[0]] // 8)
        if data.count != size:
            raise MalformedError(
                f"the constant {tensor.get('name', '')!r} has {data.count:,} bytes, its shape takes {size:,}"
            )
        return size

    def _grid(self, grid: Mapping[str, Any]) -> None:
        if ("details" in grid) != bool(grid.get("details_type", 0)):
            raise MalformedError("a grid without its details")
        if "details" in grid:
            if grid["details_type"] != _BLOCKWISE_TYPE:
                raise MalformedError(f"a grid of type {grid['details_type']}, which medge never writes")
            blocks = self.source.table(_BLOCKWISE, grid["details"])
            if blocks.get("zeros", 0) != -1 or blocks.get("size", 0) < 1:
                raise MalformedError("a grid of blocks that are none")
            if self._within(blocks.get("scales", 0), self.tensors, "tensor") not in self.constants:
                raise MalformedError("a grid whose scales are computed")

    def _indices(self, table: Mapping[str, Any], key: str) -> tuple[int, ...]:
        found = self.source.numbers("i32", table.get(key))
        for index in found:
            self._within(index, self.tensors, "tensor")
        return found

    def _ends(self, graph: Mapping[str, Any], signature: Mapping[str, Any], key: str) -> dict[str, End]:
        named = {end.get("name", ""): end.get("tensor", 0) for end in signature.get(key, ())}
        if sorted(named.values()) != sorted(self._indices(graph, key)) or len(named) != len(signature.get(key, ())):
            raise MalformedError(f"its signature has other {key} than its graph")
        return {name: self.tensors[index] for name, index in named.items()}

    def _run_order(self, operators: list[dict[str, Any]], known: set[int]) -> tuple[str, ...]:
        """The operators' names; each may read only what stands there by then, and write only what nothing has written."""
        known = known | self.constants
        names = []
        for operator in operators:
            kind = self.kinds[self._within(operator.get("code", 0), self.kinds, "kind of operator")]
            name, options_type, options = OPERATORS[kind]
            if operator.get("options_type", 0) != (options_type if "options" in operator else 0):
                raise MalformedError(f"a {name} with options of another operator")
            if "options" in operator:
                self.source.table(options, operator["options"])
            for index in self.source.numbers("i32", operator.get("inputs")):
                if index != -1 and index not in known:  # -1: an input that was left out
                    raise MalformedError(f"a {name} that reads what is not there yet")
            written = set(self._indices(operator, "outputs"))
            if not written or written & known:
                raise MalformedError(f"a {name} that writes nothing, or over something")
            known |= written
            names.append(name)
        return tuple(names)


def _ends(ends: Mapping[str, End]) -> str:
    return ", ".join(f"{name!r} {'x'.join(map(str, shape))} of type {kind}" for name, (kind, shape) in ends.items())
