"""Read a CoreML package as it lies on disk: the ML program and its weight file, without CoreML.

A package is a folder: `Manifest.json` names the model file, a protobuf (coremltools ships its schema); large constants lie
in `weights/weight.bin`, each behind 64 bytes of metadata (MILBlob/Blob/StorageFormat.hpp in coremltools' sources).
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ....runtime.errors import BundleError
from ..quietly import coremltools

_SENTINEL = 0xDEADBEEF
# MIL's element types: numpy's type that holds one, bits that one takes in a blob.
ELEMENTS: dict[str, tuple[str, int]] = {
    "BOOL": ("bool", 8), "STRING": ("object", 0), "FLOAT16": ("float16", 16), "FLOAT32": ("float32", 32),
    "FLOAT64": ("float64", 64), "INT8": ("int8", 8), "INT16": ("int16", 16), "INT32": ("int32", 32), "INT64": ("int64", 64),
    "INT4": ("int8", 4), "UINT8": ("uint8", 8), "UINT16": ("uint16", 16), "UINT32": ("uint32", 32), "UINT64": ("uint64", 64),
    "UINT1": ("uint8", 1), "UINT2": ("uint8", 2), "UINT3": ("uint8", 3), "UINT4": ("uint8", 4), "UINT6": ("uint8", 6),
}  # fmt: skip


@dataclass(frozen=True)
class TensorType:
    """An element type by MIL's name and a shape; None where a dimension is not fixed."""

    element: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Operation:
    """One operation: arguments are names of values computed before, constants, or lists of either."""

    kind: str
    name: str
    inputs: Mapping[str, tuple[Any, ...]]  # each entry a `Name` or a constant's value
    outputs: tuple[tuple[str, TensorType], ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Name:
    """A reference to a value by its name."""

    text: str


@dataclass(frozen=True)
class Constant:
    """A constant with its declared type; `read` fetches it from the weight file where it lies there."""

    type: TensorType
    value: Any = None
    offset: int | None = None


@dataclass(frozen=True)
class Input:
    """What the package takes: a tensor, or an image of RGB bytes (H, W, 3)."""

    name: str
    is_image: bool
    shape: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]  # every one that is allowed


class Package:
    """An opened `.mlpackage` with one function.

    Raises:
        BundleError: a file is missing or damaged, or the package holds no ML program.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = folder / "Manifest.json"
        if not manifest.is_file():
            raise BundleError(f"{folder} is no CoreML package: it has no Manifest.json")
        try:
            items = json.loads(manifest.read_text())
            relative = items["itemInfoEntries"][items["rootModelIdentifier"]]["path"]
            model = (folder / "Data" / relative).resolve()
            if not model.is_relative_to(folder.resolve()):
                raise BundleError(f"{folder}: its manifest points outside the package")
            self.spec = coremltools().proto.Model_pb2.Model.FromString(model.read_bytes())
        except FileNotFoundError as error:
            raise BundleError(f"{folder} lacks {Path(error.filename).name}; copy the package again") from error
        except (OSError, ValueError, KeyError, TypeError, DecodeError) as error:
            raise BundleError(f"{folder} is damaged ({type(error).__name__}: {error})") from error
        if self.spec.WhichOneof("Type") != "mlProgram":
            raise BundleError(f"{folder} holds a {self.spec.WhichOneof('Type')}, not an ML program")
        functions = self.spec.mlProgram.functions
        if list(functions) != ["main"]:
            raise BundleError(f"{folder}: expected one function 'main', found {', '.join(functions) or 'none'}")
        main = functions["main"]
        self._block = main.block_specializations[main.opset]
        self.opset = main.opset
        weights = model.parent / "weights" / "weight.bin"
        self._weights = weights if weights.is_file() else None
        self._map: mmap.mmap | None = None
        self.outputs = tuple(self._block.outputs)

    @property
    def metadata(self) -> dict[str, str]:
        """Author, licence, description and what the exporter added, as Xcode shows them."""
        described = self.spec.description.metadata
        fixed = {"author": described.author, "license": described.license, "description": described.shortDescription}
        return {**fixed, "version": described.versionString, **described.userDefined}

    @property
    def inputs(self) -> tuple[Input, ...]:
        found = []
        for item in self.spec.description.input:
            if item.type.WhichOneof("Type") == "imageType":
                image = item.type.imageType
                shape: tuple[int, ...] = (1, 3, image.height, image.width)
                found.append(Input(item.name, True, shape, (shape,)))
            else:
                array = item.type.multiArrayType
                shape = tuple(array.shape)
                listed = [tuple(option.shape) for option in array.enumeratedShapes.shapes]
                found.append(Input(item.name, False, shape, tuple(listed) or (shape,)))
        return tuple(found)

    def operations(self) -> Iterator[Operation]:
        """The operations in their order, `const` ones too."""
        for op in self._block.operations:
            attributes = {key: self._value(value) for key, value in op.attributes.items()}
            outputs = tuple((item.name, _type(item.type)) for item in op.outputs)
            inputs = {key: tuple(self._binding(item) for item in value.arguments) for key, value in op.inputs.items()}
            named = attributes.get("name")
            name = str(named.value) if isinstance(named, Constant) else (outputs[0][0] if outputs else op.type)
            yield Operation(op.type, name, inputs, outputs, attributes)

    def read(self, constant: Constant) -> Any:
        """A constant's value: a numpy array of its shape, or a scalar or text for immediate ones.

        Raises:
            BundleError: no weight file, or what lies there is not such a constant.
        """
        if constant.offset is None:
            return constant.value
        data = self._open_weights()
        where = f"{self.folder}: weight.bin at byte {constant.offset}"
        if constant.offset + 64 > len(data):
            raise BundleError(f"{where} is past its end; the file is cut short, copy the package again")
        sentinel, _, size, start = struct.unpack_from("<IIQQ", data, constant.offset)
        if sentinel != _SENTINEL:
            raise BundleError(f"{where} holds no constant; it is not this model's weight file")
        dtype, bits = ELEMENTS[constant.type.element]
        shape = tuple(int(extent or 0) for extent in constant.type.shape)
        count = math.prod(shape)
        needed = -(-count * bits // 8)
        if size < needed or start + needed > len(data):
            raise BundleError(f"{where} has {size} bytes, needs {needed}; copy the package again")
        raw = np.frombuffer(data, np.uint8, needed, start)
        if bits >= 8:
            return raw.view(dtype).reshape(shape)
        return _unpack(raw, bits, count, signed=constant.type.element.startswith("INT")).reshape(shape)

    def _open_weights(self) -> mmap.mmap:
        if self._weights is None:
            raise BundleError(f"{self.folder} lacks weights/weight.bin; copy the package again, with all its folders")
        if self._map is None:
            with self._weights.open("rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def _binding(self, item: Any) -> Name | Constant:
        return Name(item.name) if item.WhichOneof("binding") == "name" else self._value(item.value)

    def _value(self, value: Any) -> Constant:
        kind = _type(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            return Constant(kind, offset=int(value.blobFileValue.offset))
        return Constant(kind, value=_immediate(value.immediateValue.tensor, kind))


def _type(value: Any) -> TensorType:
    tensor = value.tensorType
    shape = tuple(
        int(item.constant.size) if item.WhichOneof("dimension") == "constant" else None for item in tensor.dimensions
    )
    return TensorType(coremltools().proto.MIL_pb2.DataType.Name(tensor.dataType), shape)


def _immediate(tensor: Any, kind: TensorType) -> Any:
    field = tensor.WhichOneof("value")
    values = getattr(tensor, field).values
    if kind.element == "STRING":
        return str(values[0]) if values else ""
    dtype, bits = ELEMENTS[kind.element]
    if field == "bytes":
        raw = np.frombuffer(values, np.uint8)
        count = math.prod(int(extent or 0) for extent in kind.shape)
        array = raw.view(dtype) if bits >= 8 else _unpack(raw, bits, count, signed=kind.element.startswith("INT"))
    else:
        array = np.array(list(values), dtype)
    return array.reshape(tuple(int(extent or 0) for extent in kind.shape))


def _unpack(raw: NDArray[np.uint8], bits: int, count: int, *, signed: bool) -> NDArray[Any]:
    """Values of less than a byte, packed from the lowest bit on, to one a byte."""
    stream = np.unpackbits(raw, bitorder="little")[: count * bits].reshape(count, bits)
    values = (stream << np.arange(bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
    if not signed:
        return values
    return np.where(values >= 1 << (bits - 1), values.astype(np.int16) - (1 << bits), values).astype(np.int8)
