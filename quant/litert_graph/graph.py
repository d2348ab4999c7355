"""A small view of a .tflite model for rewriting it: constants, linear layers, tables, further outputs, saving.

What can be read and written stands in the schema that the `ai_edge_litert` package carries; tensors are named by their index.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import naming_extra

with naming_extra("litert"):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # of a buffer's bytes, as the schema demands (force_align) and flatbuffers' object API forgets
SIGNATURE = "serving_default"  # what TensorFlow's, MediaPipe's and LiteRT's tools call by default
DTYPES: dict[int, type[np.generic]] = {
    schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16, schema.TensorType.INT32: np.int32,
    schema.TensorType.INT8: np.int8, schema.TensorType.INT4: np.uint8,
}  # fmt: skip


@dataclass(frozen=True)
class Linear:
    """A layer that multiplies by a constant matrix: y = x @ weight.T, weight (N, K)."""

    operator: Any
    weight: int
    source: int  # the tensor that enters


class Graph:
    """A model in memory.

    Attributes:
        model: the flatbuffer's objects.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        (self._subgraph,) = model.subgraphs

    @classmethod
    def read(cls, content: bytes) -> Graph:
        """The model that these bytes of a file are; large ones keep their weights behind the flatbuffer."""
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        for buffer in model.buffers:
            if buffer.offset > 1:
                buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
        return cls(model)

    def copy(self) -> Graph:
        """An independent copy; weights, which are replaced and never changed, are shared."""
        shared = {id(buffer.data): buffer.data for buffer in self.model.buffers}
        return Graph(copy.deepcopy(self.model, dict(shared)))

    def content(self) -> bytes:
        """The bytes of its file."""
        self._drop_unused()
        model = copy.copy(self.model)
        model.buffers = [_Aligned(buffer.data) for buffer in self.model.buffers]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())

    @property
    def tensors(self) -> list[Any]:
        return list(self._subgraph.tensors)

    @property
    def operators(self) -> list[Any]:
        return list(self._subgraph.operators)

    def kind(self, operator: Any) -> int:
        """An operator's number in the schema."""
        return int(self.model.operatorCodes[operator.opcodeIndex].builtinCode)

    def is_constant(self, tensor: int) -> bool:
        data = self.model.buffers[self.tensors[tensor].buffer].data
        return tensor >= 0 and data is not None and len(data) > 0

    def array(self, tensor: int) -> NDArray[Any]:
        """The value of a constant."""
        found = self.tensors[tensor]
        data = np.asarray(self.model.buffers[found.buffer].data, np.uint8)
        return data.view(DTYPES[found.type]).reshape(tuple(found.shape))

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(int(size) for size in self.tensors[tensor].shape)

    def linears(self) -> list[Linear]:
        """Every fully connected layer with a constant weight, in the order of execution."""
        return [
            Linear(operator, int(operator.inputs[1]), int(operator.inputs[0]))
            for operator in self._of_kind(schema.BuiltinOperator.FULLY_CONNECTED)
            if self.is_constant(operator.inputs[1])
        ]

    def tables(self) -> list[Any]:
        """Every look-up in a constant table: the token embedding."""
        lookups = self._of_kind(schema.BuiltinOperator.EMBEDDING_LOOKUP)
        return [operator for operator in lookups if self.is_constant(operator.inputs[1])]

    def _of_kind(self, kind: int) -> Iterator[Any]:
        return (operator for operator in self._subgraph.operators if self.kind(operator) == kind)

    def readers(self, tensor: int) -> list[Any]:
        """The operators that a tensor enters."""
        return [operator for operator in self._subgraph.operators if tensor in operator.inputs]

    def add(self, shape: Sequence[int], kind: int, name: str, value: NDArray[Any] | None = None) -> int:
        """Add a tensor, a constant where it has a value; returns its index."""
        self.model.buffers.append(_Aligned(None if value is None else _bytes_of(value)))
        tensor = schema.TensorT(
            shape=np.array(shape, np.int32),
            type=kind,
            buffer=len(self.model.buffers) - 1,
            name=name.encode(),
            hasRank=True,
        )
        self._subgraph.tensors.append(tensor)
        return len(self._subgraph.tensors) - 1

    def set_value(self, tensor: int, value: NDArray[Any], kind: int, shape: Sequence[int] | None = None) -> None:
        """Give a constant another value of this type; `shape` where the value is packed."""
        found = self.tensors[tensor]
        self.model.buffers.append(_Aligned(_bytes_of(value)))  # its own: equal constants share one
        found.buffer, found.type = len(self.model.buffers) - 1, kind
        self.set_shape(tensor, value.shape if shape is None else shape)

    def set_shape(self, tensor: int, shape: Sequence[int]) -> None:
        self.tensors[tensor].shape = np.array(shape, np.int32)

    def set_scales(self, tensor: int, scales: NDArray[np.float32]) -> None:
        """Say that an integer constant is symmetric, with a scale for each of its rows."""
        found = schema.QuantizationParametersT(
            scale=scales.astype(np.float32), zeroPoint=np.zeros(len(scales), np.int64), quantizedDimension=0
        )
        self.tensors[tensor].quantization = found

    def set_block_scales(self, tensor: int, scales: NDArray[np.float16], block: int) -> None:
        """Say that an integer constant, (N, K), has a scale for each `block` numbers of a row: (N, K / block)."""
        index = self.add(scales.shape, schema.TensorType.FLOAT16, f"scales {tensor}", scales)
        blocks = schema.BlockwiseQuantizationT(scales=index, zeroPoints=-1, blockSize=block)
        self.tensors[tensor].quantization = schema.QuantizationParametersT(
            detailsType=schema.QuantizationDetails.BlockwiseQuantization, details=blocks
        )

    def put_first(self, operator: Any) -> None:
        self._subgraph.operators.insert(0, operator)

    def put_after(self, place: Any, operator: Any) -> None:
        index = next(index for index, one in enumerate(self._subgraph.operators) if one is place)
        self._subgraph.operators.insert(index + 1, operator)

    def operator_code(self, kind: int, version: int) -> int:
        """The place of an operator among those that the file says it needs."""
        for index, code in enumerate(self.model.operatorCodes):
            if code.builtinCode == kind and code.version == version:
                return index
        small = min(kind, 127)  # the field of the first readers, which ended there
        self.model.operatorCodes.append(
            schema.OperatorCodeT(deprecatedBuiltinCode=small, builtinCode=kind, version=version)
        )
        return len(self.model.operatorCodes) - 1

    def set_outputs(self, outputs: Mapping[str, int]) -> None:
        """What the model gives, by the names of its signature: {name: tensor}."""
        (signature,) = self.model.signatureDefs
        self._subgraph.outputs = np.array(list(outputs.values()), np.int32)
        signature.outputs = [schema.TensorMapT(name.encode(), index) for name, index in outputs.items()]

    @property
    def outputs(self) -> dict[str, int]:
        """{name in its signature: tensor}."""
        (signature,) = self.model.signatureDefs
        return {one.name.decode(): int(one.tensorIndex) for one in signature.outputs}

    @property
    def inputs(self) -> dict[str, int]:
        """{name in its signature: tensor}."""
        (signature,) = self.model.signatureDefs
        return {one.name.decode(): int(one.tensorIndex) for one in signature.inputs}

    def with_outputs(self, tensors: Mapping[str, int]) -> bytes:
        """A file of the same model that gives these tensors instead: {name: tensor}."""
        changed = self.copy()
        changed.set_outputs(tensors)
        return changed.content()

    def set_metadata(self, entries: Mapping[str, bytes]) -> None:
        """What stands beside the model in its file, by name; replaces what stands there."""
        self.model.metadata = []
        for name, value in entries.items():
            self.model.buffers.append(_Aligned(np.frombuffer(value, np.uint8)))
            self.model.metadata.append(schema.MetadataT(name.encode(), len(self.model.buffers) - 1))

    def _drop_unused(self) -> None:
        """Leave out buffers that nothing refers to; the first is empty by convention."""
        used = {0, *(tensor.buffer for tensor in self.tensors), *(entry.buffer for entry in self.model.metadata or ())}
        place = {old: new for new, old in enumerate(sorted(used))}
        self.model.buffers = [self.model.buffers[old] for old in sorted(used)]
        for item in (*self.tensors, *(self.model.metadata or ())):
            item.buffer = place[item.buffer]


class _Aligned(schema.BufferT):
    """A buffer whose bytes begin where an engine may read them in place."""

    def Pack(self, builder: Any) -> Any:
        if self.data is None:
            return super().Pack(builder)
        content = np.ascontiguousarray(self.data, np.uint8).tobytes()
        builder.StartVector(1, len(content), ALIGNMENT)
        builder.head = builder.Head() - len(content)
        builder.Bytes[builder.Head() : builder.Head() + len(content)] = content
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def _bytes_of(value: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8)
