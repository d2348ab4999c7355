"""Read and check the head of a GGUF file without trusting it, and without reading its weights.

llama.cpp maps a file and believes its header; a truncated or hostile one ends in a crash. Here every count, length and
offset is checked against the file's size first. The format: ggml/docs/gguf.md in llama.cpp.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BundleError, one_line

MAGIC, VERSIONS = b"GGUF", (2, 3)
MAX_REASON = 200  # characters; what a file says of itself can be as long as it likes
MAX_ENTRIES, DIMENSIONS = 1 << 20, 4

# ggml's type numbers: name, values in a block, bytes of a block (gguf-py's constants.py; a test compares them).
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
# Types of metadata: number to name and numpy's form of it; strings and arrays have forms of their own.
_SCALARS = {
    0: ("U8", "<u1"), 1: ("I8", "<i1"), 2: ("U16", "<u2"), 3: ("I16", "<i2"), 4: ("U32", "<u4"), 5: ("I32", "<i4"),
    6: ("F32", "<f4"), 7: ("BOOL", "?"), 10: ("U64", "<u8"), 11: ("I64", "<i8"), 12: ("F64", "<f8"),
}  # fmt: skip
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GGUFTensor:
    """Where one tensor lies. `shape` is in ggml's order: the dimension that runs fastest comes first."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    bytes: int

    @property
    def values(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class GGUFHeader:
    """The head of a file.

    Attributes:
        path: the file.
        metadata: keys to values; an array stands as its length, since a vocabulary has a quarter of a million strings, but
            for those that `read_header` was asked for, which are lists; of strings their bytes.
        tensors: name to place.
        kinds: keys to types: "U32", "F32", "STR", ...; of an array "[STR]".
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GGUFTensor]
    kinds: Mapping[str, str]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def get(self, key: str, default: Any = None) -> Any:
        """A value of the architecture's own keys: get("block_count") reads "gemma3.block_count"."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    def bits_per_weight(self) -> float:
        return 8 * sum(t.bytes for t in self.tensors.values()) / sum(t.values for t in self.tensors.values())

    def types(self) -> dict[str, int]:
        """How many tensors there are of each type."""
        names = [tensor.type for tensor in self.tensors.values()]
        return {name: names.count(name) for name in sorted(set(names))}


def read_header(path: Path, arrays: Collection[str] = ()) -> GGUFHeader:
    """Read and check a header.

    Args:
        path: the file.
        arrays: keys of the arrays whose values are wanted.

    Raises:
        BundleError: with one sentence on what is wrong with the file.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(path, data).header(arrays)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: can't be read as GGUF ({error}); copy or export it again") from error


class _Reader:
    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.size, self.at = path, data, len(data), 0

    def header(self, arrays: Collection[str]) -> GGUFHeader:
        if self.data[:4] != MAGIC:
            raise self._bad("it does not begin with GGUF")
        self.at = 4
        version = self._number("<I")
        if version not in VERSIONS:
            raise self._bad(f"its format version is {version}, this medge reads {VERSIONS[0]} to {VERSIONS[-1]}")
        tensors, keys = self._count("tensors"), self._count("metadata keys")
        metadata: dict[str, Any] = {}
        kinds: dict[str, str] = {}
        for _ in range(keys):
            key = self._string()
            if key in metadata:
                raise self._bad(f"the key {key!r} stands in it twice")
            metadata[key], kinds[key] = self._value(self._number("<I"), whole=key in arrays)
        places = [self._tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise self._bad(f"an alignment of {alignment}")
        start = -(-self.at // alignment) * alignment
        return GGUFHeader(self.path, metadata, self._placed(places, start, alignment), kinds)

    def _placed(self, places: list[GGUFTensor], start: int, alignment: int) -> dict[str, GGUFTensor]:
        end, found = start, {}
        for place in sorted(places, key=lambda item: item.offset):
            begin = start + place.offset
            if place.offset % alignment or begin < end:
                raise self._bad(f"tensor {place.name!r} lies at a wrong or occupied place")
            end = begin + place.bytes
            if end > self.size:
                raise self._bad(f"it ends before tensor {place.name!r} does ({self.size:,} of {end:,} bytes)")
            if place.name in found:
                raise self._bad(f"tensor {place.name!r} stands in it twice")
            found[place.name] = GGUFTensor(place.name, place.shape, place.type, begin, place.bytes)
        return found

    def _tensor(self) -> GGUFTensor:
        name = self._string()
        dimensions = self._number("<I")
        if not 1 <= dimensions <= DIMENSIONS:
            raise self._bad(f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self._number("<Q") for _ in range(dimensions))
        kind, offset = self._number("<I"), self._number("<Q")
        if kind not in TYPES:
            raise self._bad(f"tensor {name!r} is of the unknown type {kind}")
        label, block, block_bytes = TYPES[kind]
        if min(shape) < 1 or prod(shape) > 1 << 40 or shape[0] % block:
            raise self._bad(f"tensor {name!r} can't have the shape {shape} as {label}")
        return GGUFTensor(name, shape, label, offset, prod(shape) // block * block_bytes)

    def _value(self, kind: int, *, whole: bool) -> tuple[Any, str]:
        """A value and its type; of an array the values where the `whole` is wanted, else their number."""
        if kind in _SCALARS:
            name, form = _SCALARS[kind]
            return self._numbers(form, 1)[0], name
        if kind == _STRING:
            return self._string(), "STR"
        if kind != _ARRAY:
            raise self._bad(f"a metadata value of the unknown type {kind}")
        inner, count = self._number("<I"), self._count("array elements", 1 << 28)
        if inner == _STRING:
            return self._strings(count, whole=whole), "[STR]"
        if inner not in _SCALARS:
            raise self._bad(f"an array of the unknown type {inner}")
        name, form = _SCALARS[inner]
        if whole:
            return self._numbers(form, count), f"[{name}]"
        self._skip(count * np.dtype(form).itemsize)
        return count, f"[{name}]"

    def _numbers(self, form: str, count: int) -> list[Any]:
        start = self.at
        self._skip(count * np.dtype(form).itemsize)
        values: list[Any] = np.frombuffer(self.data[start : self.at], form).tolist()
        return values

    def _strings(self, count: int, *, whole: bool) -> Any:
        """One loop without a call: a vocabulary has a quarter of a million of them."""
        data, size, at, length = self.data, self.size, self.at, struct.Struct("<Q").unpack_from
        begin, ends = at, [at]
        for _ in range(count):
            if at + 8 > size:
                raise self._bad("its header is cut off")
            at += 8 + length(data, at)[0]
            if whole:
                ends.append(at)
        if at > size:
            raise self._bad("its header is cut off")
        self.at = at
        if not whole:
            return count
        held = data[begin:at]
        return [held[start - begin + 8 : end - begin] for start, end in pairwise(ends)]

    def _string(self) -> str:
        length = self._number("<Q")
        start = self.at
        self._skip(length)
        try:
            return self.data[start : start + length].decode()
        except UnicodeDecodeError as error:
            raise self._bad("a text in it is no UTF-8") from error

    def _count(self, what: str, most: int = MAX_ENTRIES) -> int:
        count = self._number("<Q")
        if count > most:
            raise self._bad(f"it promises {count:,} {what}")
        return count

    def _number(self, form: str) -> Any:
        start = self.at
        self._skip(struct.calcsize(form))
        return struct.unpack_from(form, self.data, start)[0]

    def _skip(self, length: int) -> None:
        if length > self.size - self.at:
            raise self._bad("its header is cut off")
        self.at += length

    def _bad(self, reason: str) -> BundleError:
        return BundleError(
            f"{self.path} is no sound GGUF file: {one_line(reason, MAX_REASON)}; copy or export it again"
        )
