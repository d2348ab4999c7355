"""A small view of an ONNX model for rewriting it: weights by name, linear layers, shapes, saving."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

EXTERNAL_OVER = 2_000_000_000  # bytes; protobuf stops at 2 GiB


@dataclass(frozen=True)
class Linear:
    """A MatMul whose right side is a constant matrix: y = x @ weight, weight (K, N)."""

    node: onnx.NodeProto
    weight: str
    source: str  # the tensor that enters

    @property
    def name(self) -> str:
        return self.node.name


class Graph:
    """An ONNX model in memory.

    Attributes:
        model: the protobuf.
        weights: initializers by name. Change them through `set_weight` and `drop_unused`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.weights = {item.name: item for item in model.graph.initializer}

    @classmethod
    def load(cls, path: Path) -> Graph:
        return cls(onnx.load(str(path)))

    def copy(self) -> Graph:
        """An independent copy, weights included."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        return Graph(model)

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        return list(self.model.graph.node)

    def array(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self.weights[name])

    def set_weight(self, name: str, value: NDArray[Any]) -> str:
        """Add or replace an initializer; returns its name."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
        if name in self.weights:
            self.weights[name].CopyFrom(tensor)
        else:
            self.model.graph.initializer.append(tensor)
            self.weights[name] = self.model.graph.initializer[-1]
        return name

    def set_raw(self, name: str, data_type: int, dims: Sequence[int], data: bytes) -> str:
        """Add an initializer of a type that numpy lacks."""
        self.model.graph.initializer.append(helper.make_tensor(name, data_type, dims, data, raw=True))
        self.weights[name] = self.model.graph.initializer[-1]
        return name

    def linears(self) -> list[Linear]:
        """Every layer that multiplies by a constant matrix, in the order of execution."""
        return [
            Linear(node, node.input[1], node.input[0])
            for node in self.model.graph.node
            if node.op_type == "MatMul" and node.input[1] in self.weights and len(self.weights[node.input[1]].dims) == 2
        ]

    def tables(self) -> list[onnx.NodeProto]:
        """Every look-up in a constant table of more than one row by a computed index: the token embedding."""
        return [
            node
            for node in self.model.graph.node
            if node.op_type == "Gather" and node.input[0] in self.weights and node.input[1] not in self.weights
            and len(self.weights[node.input[0]].dims) == 2
        ]  # fmt: skip

    def replace(self, replacements: dict[str, list[onnx.NodeProto]]) -> None:
        """Put lists of nodes in the place of named nodes, and drop the weights that nobody reads any more."""
        nodes: list[onnx.NodeProto] = []
        for node in self.model.graph.node:
            nodes += replacements.get(node.name, [node])
        fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.model.graph.node[:]
        self.model.graph.node.extend(fresh)
        self.drop_unused()

    def drop_unused(self) -> None:
        used = {name for node in self.model.graph.node for name in node.input}
        if all(name in used for name in self.weights):
            return
        for index in reversed(range(len(self.model.graph.initializer))):
            if self.model.graph.initializer[index].name not in used:
                del self.model.graph.initializer[index]
        self.weights = {item.name: item for item in self.model.graph.initializer}

    def readers(self, tensor: str) -> Iterator[onnx.NodeProto]:
        return (node for node in self.model.graph.node if tensor in node.input)

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        return next((node for node in self.model.graph.node if tensor in node.output), None)

    def use_domain(self, domain: str, version: int = 1) -> None:
        if domain not in {item.domain for item in self.model.opset_import}:
            self.model.opset_import.append(helper.make_opsetid(domain, version))

    @property
    def opset(self) -> int:
        return next(int(item.version) for item in self.model.opset_import if item.domain in ("", "ai.onnx"))

    def with_outputs(self, names: Iterable[str], nodes: Sequence[onnx.NodeProto] = ()) -> bytes:
        """The serialized model with more outputs (and nodes that make them); the graph itself stays as it is.

        Nothing is copied but the result: a full-size tower is 1.8 GB.
        """
        inner = self.model.graph
        present, count = {item.name for item in inner.output}, len(inner.node)
        outputs = len(inner.output)
        inner.node.extend(nodes)
        inner.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in present)
        try:
            return self.model.SerializeToString()
        finally:
            del inner.node[count:]
            del inner.output[outputs:]

    def append(self, other: Graph) -> None:
        """Put another graph behind this one, in place.

        Args:
            other: its inputs are tensors of this graph, by name; all other names are its own. Its outputs become outputs.
        """
        shared = {item.name for item in other.model.graph.input}
        names = [{*one.weights, *(name for node in one.nodes for name in node.output)} for one in (self, other)]
        assert shared <= names[0]
        assert not names[0] & names[1]
        self.model.graph.node.extend(other.model.graph.node)
        self.model.graph.initializer.extend(other.model.graph.initializer)
        self.model.graph.output.extend(other.model.graph.output)
        self.weights = {item.name: item for item in self.model.graph.initializer}

    def drop_output(self, name: str) -> None:
        """Give a tensor no longer as an output; it is computed where other nodes read it."""
        kept = [item for item in self.model.graph.output if item.name != name]
        del self.model.graph.output[:]
        self.model.graph.output.extend(kept)

    def without_weights(self) -> onnx.ModelProto:
        """The model with its initializers' values left out, for structural checks that would copy gigabytes."""
        light = onnx.ModelProto()
        light.ir_version = self.model.ir_version
        light.opset_import.extend(self.model.opset_import)
        light.graph.name = self.model.graph.name
        light.graph.node.extend(self.model.graph.node)
        light.graph.output.extend(self.model.graph.output)
        light.graph.input.extend(self.model.graph.input)
        for item in self.model.graph.initializer:
            light.graph.input.append(helper.make_tensor_value_info(item.name, item.data_type, list(item.dims)))
        return light

    def save(self, path: Path) -> list[Path]:
        """Write the file; weights go to `<name>.onnx_data` beside it (transformers.js' name) when over 2 GB."""
        if self.model.ByteSize() <= EXTERNAL_OVER:
            onnx.save(self.model, str(path))
            return [path]
        data = path.name + "_data"
        onnx.save(
            self.model, str(path), save_as_external_data=True, all_tensors_to_one_file=True, location=data,
            size_threshold=1024,
        )  # fmt: skip
        return [path, path.with_name(data)]
