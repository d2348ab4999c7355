"""The parts of a multipart body, each in a file of its own while the body still arrives."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from ...errors import StationError
from ..store.objects import refusing_when_full

_IN_MEMORY = 1 << 20  # bytes of a part that is kept off the disk
_LONGEST_HEADER = 8192


class Parts:
    """A multipart body, read in pieces.

    Args:
        content_type: the header field of the whole body.
        folder: on the disk that takes the parts while they arrive.

    Raises:
        StationError: the body is no multipart/related, or no boundary is named.
    """

    def __init__(self, content_type: str, folder: Path) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/related" or not boundary:
            raise StationError("the body is not declared as multipart/related with a boundary")
        self.type = options.get(b"type", b"").decode("latin-1").lower()
        self._folder = folder
        self._done: list[tuple[str, BinaryIO]] = []
        self._part: BinaryIO | None = None
        self._header = bytearray(), bytearray()
        self._part_type = ""
        self._over = False
        self._stack = contextlib.ExitStack()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin, "on_header_field": self._name, "on_header_value": self._value,
                "on_header_end": self._header_end, "on_part_data": self._data, "on_part_end": self._end,
                "on_end": self._all,
            },
        )  # fmt: skip

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body.

        Raises:
            StationError: it is not in the form of multipart.
            StationFullError: the disk is full.
        """
        try:
            with refusing_when_full():
                self._parser.write(piece)
        except MultipartParseError as error:
            raise StationError("the body is not in the form of multipart/related") from error

    def complete(self) -> Iterator[tuple[str, BinaryIO]]:
        """The parts that have arrived whole since the last call: (content type, its bytes). Each is closed when the next is
        asked for."""
        while self._done:
            kind, part = self._done.pop(0)
            yield kind, part
            part.close()

    def finish(self) -> None:
        """Say that there is no more.

        Raises:
            StationError: the body ended before its last boundary.
        """
        if not self._over:
            raise StationError("the body ended before its last boundary; send it again")

    def _begin(self) -> None:
        file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._folder))  # noqa: SIM115  # closed by the stack
        self._part, self._part_type = cast(BinaryIO, self._stack.enter_context(file)), ""

    def _name(self, data: bytes, start: int, end: int) -> None:
        self._add(0, data[start:end])

    def _value(self, data: bytes, start: int, end: int) -> None:
        self._add(1, data[start:end])

    def _add(self, which: int, piece: bytes) -> None:
        self._header[which].extend(piece)
        if len(self._header[which]) > _LONGEST_HEADER:
            raise MultipartParseError("a header of a part is too long")

    def _header_end(self) -> None:
        name, value = (bytes(one) for one in self._header)
        if name.strip().lower() == b"content-type":
            self._part_type = parse_options_header(value)[0].decode("latin-1").lower()
        self._header = bytearray(), bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        assert self._part is not None
        self._part.write(data[start:end])

    def _end(self) -> None:
        assert self._part is not None
        self._part.seek(0)
        self._done.append((self._part_type, self._part))
        self._part = None

    def _all(self) -> None:
        self._over = True
