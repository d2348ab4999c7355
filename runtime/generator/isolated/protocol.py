"""What a language model's process and its parent say to each other.

Each request, a JSON object and the pixels of its images (`processes.pipes`), has one reply: a length and a JSON object of one of
the forms below. A piece of an answer is computed when it is asked for, so that a stream that nobody reads costs nothing.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec

from ... import errors
from ...errors import GeneratorError, MedgeError
from ..conversation import Stop

READY = b"medge-generator-1"  # the first that a process says, when it can take a request
LENGTH = struct.Struct("<I")  # of a reply's JSON
LONGEST = 1 << 20  # bytes of that


class Opened(msgspec.Struct, tag=True, forbid_unknown_fields=True, frozen=True):
    """The model is loaded, with so many positions of context."""

    context: int


class Counted(msgspec.Struct, tag=True, forbid_unknown_fields=True, frozen=True):
    """How many positions a text takes."""

    tokens: int


class Piece(msgspec.Struct, tag=True, forbid_unknown_fields=True, frozen=True):
    """A fragment of an answer, and the tokens so far."""

    text: str
    thought: bool
    stop: Stop | None
    prompt: int
    reused: int
    tokens: int


class Failed(msgspec.Struct, tag=True, forbid_unknown_fields=True, frozen=True):
    """An error: the name of its class, and what it says."""

    kind: str
    words: str

    def error(self) -> MedgeError:
        """The same error here."""
        kind = getattr(errors, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, MedgeError)):
            kind = GeneratorError
        return kind.__new__(kind, self.words)  # without __init__, whose arguments may be others


Reply = Opened | Counted | Piece | Failed


def packed(reply: Reply) -> bytes:
    """A reply as it is sent."""
    words = json.dumps(msgspec.to_builtins(reply)).encode()  # as ASCII: a path's name need not be Unicode
    return LENGTH.pack(len(words)) + words


def unpacked(words: bytes | bytearray) -> Reply:
    """The reply that a JSON object holds.

    Raises:
        ValueError: it holds none.
    """
    try:
        body: Any = json.loads(words)
    except RecursionError as error:
        raise ValueError("objects or lists stand too deep in one another") from error
    return msgspec.convert(body, type=Reply)
