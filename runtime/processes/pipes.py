"""A worker process's side: requests come in by one pipe, and bytes go out by another.

A request is the length of a JSON object and of a payload, the object, the payload.
"""

from __future__ import annotations

import json
import os
import select
import struct
import sys
import threading
from collections.abc import Iterable
from typing import Any

REQUEST = struct.Struct("<IQ")  # lengths of the JSON object and of the payload


class Pipes:
    """The two pipes of this process, taken from its standard input and output, which lead nowhere from then on: what a library
    prints must not stand between two answers."""

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        if sys.platform == "win32":
            import msvcrt

            for stream in (self._in, self._out):
                msvcrt.setmode(stream, os.O_BINARY)
        for stream, how in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
            nothing = os.open(os.devnull, how)
            os.dup2(nothing, stream)
            os.close(nothing)
        self._reader = os.fdopen(self._in, "rb", closefd=False)

    def request(self) -> tuple[dict[str, Any], int] | None:
        """The next request's object, and how many bytes of payload follow; None where the parent has gone."""
        head = self.receive(REQUEST.size)
        if head is None:
            return None
        size, given = REQUEST.unpack(head)
        return json.loads(self.receive(size) or b"{}"), given

    def receive(self, size: int) -> bytes | None:
        """Exactly so many bytes; None where the parent has gone."""
        found = self._reader.read(size)
        return found if len(found) == size else None

    def send(self, pieces: Iterable[Any]) -> None:
        """Write bytes, or buffers, one after the other."""
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._out, rest) :]

    def end_with_parent(self) -> None:
        """End this process as soon as the parent has gone, whatever it computes; on Windows, when it next reads or writes."""
        if hasattr(select, "poll"):
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        gone = select.poll()
        gone.register(self._in, 0)  # that the other end was closed is told unasked
        while not gone.poll():
            pass
        os._exit(0)
