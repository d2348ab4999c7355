"""A thin wrapper of LiteRT's interpreter: one place for its options and errors."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BundleError, naming_extra, one_line
from ..cpu import usable_cores
from ..onnx_session import Tensors
from .outline import Called, check_litert


class LiteRTSession:
    """A .tflite file opened with LiteRT's interpreter, on the CPU; its signature takes one input at a time.

    Args:
        model: the file, which is checked first (see `outline`), or bytes of the caller's own making (how parity opens a copy
            with more outputs).
        called: how the file will be called, as its manifest says; None where nothing is said.
        threads: of the engine; as many as this process has cores where None.

    Raises:
        BundleError: the file can't be opened, or is none that medge could have written.
        MissingExtraError: ai-edge-litert is not installed.
    """

    def __init__(self, model: Path | bytes, *, called: Called | None = None, threads: int | None = None) -> None:
        self._name = "the model" if isinstance(model, bytes) else str(model)
        if isinstance(model, Path):
            check_litert(model, called)
        with naming_extra("litert"):
            from ai_edge_litert.interpreter import Interpreter

        opened: dict[str, Any] = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
        try:
            # The engine's library says on standard error that it uses its own kernels; nothing in Python turns that off.
            with silenced(2):
                self._interpreter = Interpreter(num_threads=threads or usable_cores(), **opened)
                self._interpreter.allocate_tensors()
                self._run = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise self._failed("open", error) from error
        self._types = {name: facts["dtype"] for name, facts in self._run.get_input_details().items()}

    def run(self, outputs: Sequence[str], inputs: Tensors) -> list[NDArray[Any]]:
        """What the model makes of its inputs, row by row.

        Raises:
            BundleError: the interpreter can't run it, or there is no memory for it.
        """
        given = {name: np.ascontiguousarray(value, self._types[name]) for name, value in inputs.items()}
        count = len(next(iter(given.values())))
        try:
            rows = [self._run(**{n: value[row : row + 1] for n, value in given.items()}) for row in range(count)]
        except (ValueError, RuntimeError) as error:
            raise self._failed("run", error) from error
        return [np.concatenate([row[name] for row in rows]) for name in outputs]

    def _failed(self, what: str, error: Exception) -> BundleError:
        reason = one_line(" ".join(str(error).split()))
        return BundleError(f"{self._name}: LiteRT can't {what} it ({reason})")


@contextlib.contextmanager
def silenced(*streams: int) -> Iterator[None]:
    """What a library writes to these standard streams, by their numbers, leads nowhere."""
    for stream in streams:
        {1: sys.stdout, 2: sys.stderr}[stream].flush()
    kept = [os.dup(stream) for stream in streams]
    with open(os.devnull, "wb") as nothing:
        for stream in streams:
            os.dup2(nothing.fileno(), stream)
        try:
            yield
        finally:
            for stream, original in zip(streams, kept, strict=True):
                os.dup2(original, stream)
                os.close(original)
