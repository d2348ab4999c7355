"""A decoder process: imports one library, locks itself in, then decodes what it is sent until its input ends.

Started by `worker.py`; the words of its command line are the library's name.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

from ...processes.pipes import Pipes
from .protocol import (
    ANSWER,
    CHARLS,
    GDCM,
    LONGEST_REASON,
    OPENJPEG,
    PILLOW,
    PIXELS,
    READY,
    REFUSED,
    Raster,
    Refusal,
    words_of,
)
from .sandbox import Sandbox

NO_MEMORY = "takes more memory to decode than an image of its size may"
Decode = Callable[[bytes, dict[str, Any], Callable[[int], None]], Raster]


def main() -> None:
    """Serve requests until the parent has gone."""
    decoders, pipes = _decoders(sys.argv[1]), Pipes()
    sandbox = Sandbox()
    pipes.send([READY])
    while (request := pipes.request()) is not None:
        options, given = request
        sandbox.allow_memory(given, options["pixels"])
        sandbox.allow_seconds(options["seconds"])
        pipes.send(_answer(decoders, options, given, pipes, sandbox))
        sandbox.rest()


def _decoders(library: str) -> dict[str, Decode]:
    """What this process decodes, everything that it needs imported."""
    if library == PILLOW:
        from . import pillow

        pillow.prepare()
        return {"file": pillow.decode_file, "jpeg": _frame(pillow.decode_jpeg), "rle": _frame(pillow.decode_rle)}
    from . import frames

    module, decode = {
        OPENJPEG: ("openjpeg", frames.decode_jpeg_2000),
        CHARLS: ("jpeg_ls", frames.decode_jpeg_ls),
        GDCM: ("gdcm", frames.decode_by_gdcm),
    }[library]
    importlib.import_module(module)
    return {"frame": _frame(decode)}


def _frame(decode: Callable[[bytes, dict[str, Any]], Raster]) -> Decode:
    return lambda payload, options, sized: decode(payload, options)


def _answer(
    decoders: dict[str, Decode], options: dict[str, Any], given: int, pipes: Pipes, sandbox: Sandbox
) -> Iterable[Any]:
    try:
        payload = pipes.receive(given)
        if payload is None:
            return []
        decode = decoders[options["what"]]
        found = decode(payload, options, lambda pixels: sandbox.allow_memory(given, pixels))
        head = ANSWER.pack(PIXELS, found.itemsize, found.samples, found.planar, found.rows, found.columns, found.length)
        return _chain(head, found.pieces)
    except MemoryError:
        reason = NO_MEMORY
    except Refusal as error:
        reason = str(error)
    except Exception as error:  # a decoder's complaint about a damaged frame, of any type
        reason = words_of(error)
    words = reason.encode("utf-8", "replace")[:LONGEST_REASON]
    return [ANSWER.pack(REFUSED, 0, 0, 0, 0, 0, len(words)), words]


def _chain(head: bytes, pieces: Iterable[Any]) -> Iterable[Any]:
    yield head
    yield from pieces
