"""A GGUF file taken apart and put together again, whatever has become of its parts; ggml/docs/gguf.md says how it is laid out."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
ALIGNMENT = 32


@dataclass
class Tensor:
    """What the head says of a tensor, and its bytes."""

    name: str
    shape: list[int]
    type: int
    offset: int
    data: bytes = b""


@dataclass
class GGUF:
    """A file: [key, type, value] in order (an array's value is [type of its members, members]), and tensors."""

    keys: list[list[Any]]
    tensors: list[Tensor]
    version: int = 3
    counts: tuple[int | None, int | None] = (None, None)  # of tensors and keys, where they are not what they should be

    @classmethod
    def read(cls, data: bytes) -> GGUF:
        at = 4

        def number(form: str) -> Any:
            nonlocal at
            found = struct.unpack_from(form, data, at)[0]
            at += struct.calcsize(form)
            return found

        def string() -> str:
            nonlocal at
            size = number("<Q")
            at += size
            return data[at - size : at].decode("utf-8", "surrogateescape")

        def value(kind: int) -> Any:
            if kind == STRING:
                return string()
            if kind == ARRAY:
                inner = number("<I")
                return [inner, [value(inner) for _ in range(number("<Q"))]]
            return number(_SCALARS[kind])

        version, tensors, keys = number("<I"), number("<Q"), number("<Q")
        metadata = []
        for _ in range(keys):
            key, kind = string(), number("<I")
            metadata.append([key, kind, value(kind)])
        places = []
        for _ in range(tensors):
            name = string()
            shape = [number("<Q") for _ in range(number("<I"))]
            places.append(Tensor(name, shape, number("<I"), number("<Q")))
        start = -(-at // ALIGNMENT) * ALIGNMENT
        ends = [place.offset for place in places[1:]] + [len(data) - start]
        for place, end in zip(places, ends, strict=True):
            place.data = data[start + place.offset : start + end]
        return cls(metadata, places, version)

    def write(self) -> bytes:
        head = [b"GGUF", struct.pack("<I", self.version & 0xFFFFFFFF)]
        counts = [
            len(own) if said is None else said for own, said in zip((self.tensors, self.keys), self.counts, strict=True)
        ]
        head += [_number("<Q", count) for count in counts]
        for key, kind, value in self.keys:
            head += [_string(key), _number("<I", kind), _value(kind, value)]
        for place in self.tensors:
            head += [_string(place.name), struct.pack("<I", len(place.shape)), *(_number("<Q", n) for n in place.shape),
                     _number("<I", place.type), _number("<Q", place.offset)]  # fmt: skip
        top = b"".join(head)
        body = bytearray()
        for place in self.tensors:
            offset = max(0, min(place.offset, 1 << 24))
            body.extend(b"\0" * (offset - len(body)))
            body[offset : offset + len(place.data)] = place.data
        body.extend(b"\0" * (-len(body) % ALIGNMENT))
        return top + b"\0" * (-len(top) % ALIGNMENT) + bytes(body)

    def lay_anew(self) -> None:
        """Give every tensor a place of its own behind the one before."""
        at = 0
        for place in self.tensors:
            place.offset = at
            at += -(-max(len(place.data), 1) // ALIGNMENT) * ALIGNMENT


def _string(text: Any) -> bytes:
    data = str(text).encode("utf-8", "surrogatepass" if "\ud800" in str(text) else "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _number(form: str, value: Any) -> bytes:
    """A number as its type holds it: cut to its bits, or 0 where it is none."""
    try:
        if form in ("<f", "<d"):
            return struct.pack(form, float(value))
        size = struct.calcsize(form)
        return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    except (TypeError, ValueError, OverflowError):
        return b"\0" * struct.calcsize(form)


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _string(value)
    if kind == ARRAY and isinstance(value, list) and len(value) == 2 and isinstance(value[1], list):
        inner, members = value
        return _number("<I", inner) + struct.pack("<Q", len(members)) + b"".join(_value(inner, one) for one in members)
    if kind == ARRAY:
        return _number("<I", 4) + struct.pack("<Q", 0)
    return _number(_SCALARS.get(kind, "<Q"), value)
