"""The few lines of protobuf that reading an ONNX file's outline takes, with nothing believed.

A message is a row of fields: a number, a wire type, and a value or a length (protobuf.dev/programming-guides/encoding). Readers
differ in what they make of a field that stands twice or that they don't know, and what one checks the other must not read
otherwise: here both are refused.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .malformed import MalformedError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Span = tuple[int, int]  # begin and end of a field's bytes


@dataclass(frozen=True)
class Message:
    """A kind of message.

    Attributes:
        name: for errors.
        fields: field number to its name, its wire type, and whether it may repeat.
    """

    name: str
    fields: Mapping[int, tuple[str, int, bool]]


class Source:
    """A file's bytes."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data, self.size = data, len(data)

    def message(self, kind: Message, span: Span) -> dict[str, Any]:
        """A message's fields by name: whole numbers, floats, and places of bytes; lists of those that may repeat.

        Fields of zeros may be left out by who writes; they are absent here as well.

        Raises:
            MalformedError: cut off, a field that `kind` does not know, of another wire type, or twice where once is right.
        """
        data, (at, end), fields = self.data, span, kind.fields
        found: dict[str, Any] = {}
        while at < end:
            tag = data[at]
            at += 1
            if tag > 127:
                tag, at = self._varint(at - 1, end)
            known = fields.get(tag >> 3)
            if known is None:
                raise MalformedError(f"a {kind.name} with field {tag >> 3}, which medge never writes")
            name, wire, repeats = known
            value: Any
            if tag & 7 == BYTES:
                length, at = self._varint(at, end)
                if length > end - at:
                    raise MalformedError(f"a {kind.name} that is cut off")
                value = (at, at + length)
                at += length
            elif tag & 7 == VARINT:
                value, at = self._varint(at, end)
            else:
                value, at = self._fixed(tag & 7, at, end)
            if repeats:
                packed = wire == VARINT and tag & 7 == BYTES  # numbers may stand one by one, or many in one field
                found.setdefault(name, []).extend(self._packed(value) if packed else [value])
                wire = BYTES if packed else wire
            elif name in found:
                raise MalformedError(f"a {kind.name} whose {name} stands twice")
            else:
                found[name] = value
            if tag & 7 != wire:
                raise MalformedError(f"a {kind.name} whose {name} is of another type")
        return found

    def text(self, span: Span) -> str:
        """The text of a field.

        Raises:
            MalformedError: it is not UTF-8.
        """
        try:
            return self.data[span[0] : span[1]].decode()
        except UnicodeDecodeError as error:
            raise MalformedError("a name that is no text") from error

    def _packed(self, span: Span) -> list[int]:
        (at, end), numbers = span, []
        while at < end:
            number, at = self._varint(at, end)
            numbers.append(number)
        return numbers

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 64:
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (1 << 64) - 1, at
            shift += 7
        raise MalformedError("a number that is cut off or too long")

    def _fixed(self, wire: int, at: int, end: int) -> tuple[float, int]:
        if wire not in (FIXED32, FIXED64):
            raise MalformedError("a field of an unknown wire type")
        form = "<f" if wire == FIXED32 else "<d"
        if end - at < struct.calcsize(form):
            raise MalformedError("a number that is cut off")
        return struct.unpack_from(form, self.data, at)[0], at + struct.calcsize(form)
