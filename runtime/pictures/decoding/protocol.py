"""What the decoder processes and their parent say to each other over two pipes.

The parent sends a JSON object and a payload (`processes.pipes`). The process answers with a fixed header
and raw bytes: pixels, or the reason of a refusal. It is not trusted, so nothing that it sends is parsed beyond that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

READY = b"medge-decoder-1"  # the first that a process says, when it can take a request
# Status, bytes a sample, samples a pixel, planar configuration, rows, columns, length.
ANSWER = struct.Struct("<BBBBIIQ")

PIXELS, REFUSED = 0, 1  # status
LONGEST_REASON = 2000  # bytes

# Which library decodes in a process: a process imports no other.
PILLOW, OPENJPEG, CHARLS, GDCM = "pillow", "openjpeg", "charls", "gdcm"


class Refusal(Exception):
    """Why an image can't be decoded: one clause, without the image's name."""


def words_of(error: Exception) -> str:
    """A decoder's complaint on one line, or its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def clause(words: str) -> str:
    """Words of a decoder or a parser as they may stand in a message: one short line of printable characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())[:240]


@dataclass(frozen=True)
class Raster:
    """Decoded pixels.

    Attributes:
        rows, columns, samples: shape, the samples of a pixel last (or first: `planar`).
        itemsize: bytes of a sample, in the machine's byte order.
        planar: 1 where each sample has a plane of its own.
        length: bytes of all.
        pieces: the bytes, in order.
    """

    rows: int
    columns: int
    samples: int
    itemsize: int
    planar: int
    length: int
    pieces: Iterable[bytes | bytearray | memoryview]
