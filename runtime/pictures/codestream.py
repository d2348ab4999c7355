"""What a compressed frame says of itself, read without a decoder: its size, and how many bits a sample has."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# JPEG's markers (ITU-T T.81, table B.1; T.87 for JPEG-LS) that begin a frame.
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END = 0xDA, 0xD9
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


@dataclass(frozen=True)
class Header:
    """A frame's size in pixels, its samples a pixel, and the bits of a sample."""

    rows: int
    columns: int
    samples: int
    precision: int


def read_header(frame: bytes) -> Header | None:
    """The header of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K codestream; None where it is none that can be found.

    Raises:
        ValueError: it begins as one and is damaged.
    """
    try:
        if frame[:2] == b"\xff\xd8":
            return _jpeg(frame)
        start = 0 if frame[:4] == b"\xff\x4f\xff\x51" else _in_boxes(frame)
        return None if start is None else _jpeg_2000(frame, start)
    except (struct.error, IndexError) as error:
        raise ValueError("the compressed frame's header is cut off") from error


def _jpeg(frame: bytes) -> Header | None:
    at = 2
    while at < len(frame):
        if frame[at] != 0xFF:
            raise ValueError("the compressed frame's header is damaged")
        marker = frame[at + 1]
        if marker == 0xFF:  # fill bytes are allowed before a marker
            at += 1
            continue
        if marker in _FRAME_MARKERS:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return Header(rows, columns, samples, precision)
        if marker in (_START_OF_SCAN, _END):
            break
        at += 2 if marker in _BARE else 2 + struct.unpack_from(">H", frame, at + 2)[0]
    raise ValueError("the compressed frame states no size")


def _in_boxes(frame: bytes) -> int | None:
    """Where the codestream begins in a JP2 file, which some devices store in place of the bare codestream."""
    if frame[4:8] != b"jP  ":
        return None
    at = 0
    while at < len(frame):
        size, kind = struct.unpack_from(">I4s", frame, at)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", frame, at + 8)[0], 16
        if kind == b"jp2c":
            return at + head
        if size < head:
            break
        at += size
    raise ValueError("the JP2 file holds no codestream")


def _jpeg_2000(frame: bytes, start: int) -> Header:
    """The SIZ marker: ITU-T T.800, A.5.1."""
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    samples, depth = struct.unpack_from(">HB", frame, start + 40)
    return Header(bottom - top, right - left, samples, (depth & 0x7F) + 1)
