"""A multipart body as it streams in: files into one file on the station's own disk, and fields.

The file has no name: it is gone when it is closed, or when the process ends. A form parser would use the system's temporary
folder, which is memory on many machines.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from ....json_text import flattened
from ..problems import RefusedError

MOST_PARTS = 20_000
MOST_FIELD = 4096  # bytes of a field
MOST_READ = 8 << 20  # bytes that are read of a part at once: a zip's directory is, whatever it says of its size
_NAME = 200  # characters of a file's name that are told back
_ENOUGH = 1 << 20  # bytes for which a change of threads pays


async def larger(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A body in larger pieces than it comes in: each of them goes to another thread."""
    held = bytearray()
    async for piece in pieces:
        held += piece
        if len(held) >= _ENOUGH:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


@dataclass(frozen=True)
class Sent:
    """A file of the body.

    Attributes:
        name: as the client calls it, shortened; told back and used for nothing else.
        start, size: where it lies in the spool.
    """

    name: str
    start: int
    size: int


class Piece(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, spool: IO[bytes], start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._at = spool.fileno(), start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("before the beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._size - self._at, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > MOST_READ:
            raise OSError("too much at once")
        content = os.pread(self._descriptor, wanted, self._start + self._at)
        self._at += len(content)
        return content


@dataclass
class _Part:
    name: str = ""
    file: str | None = None
    start: int = 0
    size: int = 0
    value: bytearray = field(default_factory=bytearray)


class Spool:
    """Takes a multipart body piece by piece.

    Args:
        content_type: the request's header.
        folder: of the station's disk.
        room: says whether the disk takes so many bytes more.

    Raises:
        RefusedError: the header names no multipart body.
    """

    def __init__(self, content_type: str, folder: Path, room: Callable[[int], bool]) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
            raise RefusedError("send the files as multipart/form-data")
        self.fields: dict[str, str] = {}
        self.files: list[Sent] = []
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  - `close` does
        self._room, self._end, self._count = room, 0, 0
        self._part = _Part()
        self._header = [bytearray(), bytearray()]
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin, "on_part_data": self._data, "on_part_end": self._finish,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._read_header,
            },
        )  # fmt: skip

    def feed(self, content: bytes) -> None:
        """Take a piece of the body.

        Raises:
            RefusedError: it is no multipart body, has too many parts, or the disk is full.
        """
        try:
            self._parser.write(content)
        except MultipartParseError as error:
            raise RefusedError("the body is no multipart/form-data") from error

    def finish(self) -> None:
        """End the body.

        Raises:
            RefusedError: it was cut off.
        """
        try:
            self._parser.finalize()
        except MultipartParseError as error:
            raise RefusedError("the body was cut off") from error
        self._file.flush()

    def open(self, sent: Sent) -> Piece:
        """A file of the body, from its beginning."""
        return Piece(self._file, sent.start, sent.size)

    def close(self) -> None:
        """Let go of everything."""
        self._file.close()

    def _begin(self) -> None:
        self._count += 1
        if self._count > MOST_PARTS:
            raise RefusedError(f"a request takes at most {MOST_PARTS} files; send the rest in another")
        self._part = _Part(start=self._end)

    def _read_header(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._header = [bytearray(), bytearray()]
        if name.lower() != b"content-disposition":
            return
        _, options = parse_options_header(value)
        self._part.name = options.get(b"name", b"").decode(errors="replace")
        if b"filename" in options:
            self._part.file = flattened(options[b"filename"].decode(errors="replace"), _NAME)

    def _data(self, data: bytes, start: int, end: int) -> None:
        part, content = self._part, data[start:end]
        if part.file is None:
            if len(part.value) + len(content) > MOST_FIELD:
                raise RefusedError(f"a field has at most {MOST_FIELD} bytes", param=flattened(part.name, 40) or None)
            part.value += content
            return
        if not self._room(len(content)):
            raise RefusedError("the station's disk is full; make space", status=507, code="station_full")
        self._file.write(content)
        part.size += len(content)
        self._end += len(content)

    def _finish(self) -> None:
        part = self._part
        if part.file is None:
            self.fields[part.name] = part.value.decode(errors="replace")
        elif part.name == "files" and (part.file or part.size):  # a form without a chosen file sends an empty one
            self.files.append(Sent(part.file or "file", part.start, part.size))
