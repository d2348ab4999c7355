"""The few lines of flatbuffers that reading a .tflite file's outline takes, with nothing believed.

A table is a place: at it stands how far before it its list of fields lies, which says how many there are and how far behind the
place each one is (flatbuffers.dev/internals). An engine follows all of that; here every step is held against the file's end, and
a field that is unknown is refused.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..malformed import MalformedError

NUMBERS = {"i8": "<b", "u8": "<B", "i32": "<i", "u32": "<I", "u64": "<Q", "i64": "<q", "f32": "<f"}


@dataclass(frozen=True)
class Kind:
    """A kind of table.

    Attributes:
        name: for errors.
        fields: {slot: (name, what)}, where what is a number of `NUMBERS`, "text", a list of numbers ("[i32]"), a `Kind`, or a
            list of tables (a tuple with their `Kind`); "union" for a table whose kind another field tells.
    """

    name: str
    fields: Mapping[int, tuple[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a list of numbers lies: `count` of them, from byte `begin`."""

    begin: int
    count: int


class Source:
    """A file's bytes. What its tables may take together is bounded: a table can be pointed at from many places."""

    def __init__(self, data: bytes | mmap.mmap, most_tables: int) -> None:
        self.data, self.size, self._left = data, len(data), most_tables

    def number(self, kind: str, at: int) -> int:
        form = NUMBERS[kind]
        width = struct.calcsize(form)
        if at < 0 or at + width > self.size or at % width:
            raise MalformedError(f"a number at byte {at:,}, which is no place for one")
        return int(struct.unpack_from(form, self.data, at)[0])

    def root(self, kind: Kind) -> dict[str, Any]:
        return self.table(kind, self.number("u32", 0))

    def table(self, kind: Kind, at: int) -> dict[str, Any]:
        """A table's fields by name; those that are left out, as zeros may be, are absent.

        Raises:
            MalformedError: it leaves the file, or has a field that `kind` does not know.
        """
        self._left -= 1
        if self._left < 0:
            raise MalformedError("more tables than a model has")
        fields = at - self.number("i32", at)
        if fields < 0 or fields % 2 or fields + 4 > self.size:
            raise MalformedError(f"a {kind.name} without its list of fields")
        size, length = struct.unpack_from("<HH", self.data, fields)
        if size < 4 or size % 2 or fields + size > self.size or length < 4 or at + length > self.size:
            raise MalformedError(f"a {kind.name} that does not end where it says")
        found: dict[str, Any] = {}
        for slot, (offset,) in enumerate(struct.iter_unpack("<H", self.data[fields + 4 : fields + size])):
            if not offset:
                continue
            if slot not in kind.fields:
                raise MalformedError(f"a {kind.name} with field {slot}, which medge never writes")
            name, what = kind.fields[slot]
            width = struct.calcsize(NUMBERS[what]) if isinstance(what, str) and what in NUMBERS else 4
            if offset < 4 or offset + width > length:
                raise MalformedError(f"the field {name!r} of a {kind.name} lies outside of it")
            found[name] = self._value(what, at + offset)
        return found

    def _value(self, what: Any, at: int) -> Any:
        if isinstance(what, str) and what in NUMBERS:
            return self.number(what, at)
        target = at + self.number("u32", at)
        if what == "union":
            return target
        if isinstance(what, Kind):
            return self.table(what, target)
        if what == "text":
            return self._text(target)
        if isinstance(what, tuple):
            place = self._list(target, 4)
            return [self.table(what[0], one + self.number("u32", one)) for one in self._places(place)]
        return self._list(target, struct.calcsize(NUMBERS[what.strip("[]")]))

    def _places(self, place: Place) -> range:
        return range(place.begin, place.begin + 4 * place.count, 4)

    def _list(self, at: int, width: int) -> Place:
        count = self.number("u32", at)
        if at + 4 + count * width > self.size or (at + 4) % width:
            raise MalformedError("a list that leaves the file")
        return Place(at + 4, count)

    def _text(self, at: int) -> str:
        place = self._list(at, 1)
        end = place.begin + place.count
        if end >= self.size or self.data[end]:
            raise MalformedError("a text without an end")
        try:
            return self.data[place.begin : end].decode()
        except UnicodeDecodeError as error:
            raise MalformedError("a text that is none") from error

    def numbers(self, kind: str, place: Place | None) -> tuple[int, ...]:
        """The numbers of a list; none where it was left out."""
        if place is None:
            return ()
        return struct.unpack_from(f"<{place.count}{NUMBERS[kind][1]}", self.data, place.begin)
