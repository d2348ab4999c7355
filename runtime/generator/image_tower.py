"""What turns an image into tokens for the language model: an `mmproj` file in llama.cpp, or an ONNX file in ONNX Runtime.

llama.cpp's graph is fixed, and every other tool opens its file; an ONNX tower can leave work out (see `export/to_onnx`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..device.llama_library import native_messages
from ..device.onnx_outline import Interface
from ..device.onnx_session import OrtSession
from ..errors import BundleError, GeneratorError
from ..pictures.preprocess import SIGLIP, Normalisation

PIXELS, IMAGE_FEATURES = "pixel_values", "image_features"


@dataclass(frozen=True)
class TowerCall:
    """How an ONNX tower is called: the names of its input and output, and how grey levels become its input.

    The manifest says it of a bundle's tower; the defaults are how `export/to_onnx` writes one. `interface` is what its graph must
    be; None where no manifest says it.
    """

    input: str = PIXELS
    output: str = IMAGE_FEATURES
    normalise: Normalisation = SIGLIP
    interface: Interface | None = None


DEFAULT_CALL = TowerCall()


class ImageTower(Protocol):
    """A vision tower with its projector."""

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """An image of the tower's size, (side, side, 3), to (tokens, width of the language model)."""
        ...

    def close(self) -> None: ...


def open_tower(
    path: Path, model: Any, width: int, call: TowerCall, *, threads: int, gpu: bool, callback: Any = None,
) -> ImageTower:  # fmt: skip
    """Open a tower, by the kind of its file.

    Args:
        path: the file.
        model: llama.cpp's pointer to the language model.
        width: numbers of a token.
        call: names and normalisation of an ONNX tower; an `mmproj` file carries its own.
        threads: threads.
        gpu: use one where there is one.
        callback: ggml's eval callback, for who observes llama.cpp's graph.

    Raises:
        BundleError: the file can't be opened, or belongs to another model.
    """
    if path.suffix == ".onnx":
        return OnnxTower(path, call, threads=threads, gpu=gpu)
    return LlamaTower(path, model, width, threads=threads, gpu=gpu, callback=callback)


class OnnxTower:
    """A tower in ONNX Runtime, opened when the first image comes: questions about text don't pay for it."""

    def __init__(self, path: Path, call: TowerCall, *, threads: int, gpu: bool) -> None:
        self._call = call
        self._path, self._threads, self._device = path, threads, "auto" if gpu else "cpu"
        self._session: OrtSession | None = None

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._session is None:
            self._session = OrtSession(
                self._path, interface=self._call.interface, threads=self._threads, device=self._device
            )
        given = {self._call.input: self._call.normalise(pixels)[None]}
        features = self._session.run([self._call.output], given)[0][0]
        return np.ascontiguousarray(features, np.float32)

    def close(self) -> None:
        self._session = None


class LlamaTower:
    """A tower in llama.cpp's `mtmd`."""

    def __init__(self, path: Path, model: Any, width: int, *, threads: int, gpu: bool, callback: Any) -> None:
        from llama_cpp import mtmd_cpp

        self._library, self._width = mtmd_cpp, width
        params = mtmd_cpp.mtmd_context_params_default()
        params.use_gpu, params.print_timings, params.n_threads, params.warmup = gpu, False, threads, False
        if callback is not None:
            params.cb_eval = callback
        self._context = mtmd_cpp.mtmd_init_from_file(os.fsencode(path), model, params)
        if not self._context:
            raise BundleError(f"{path}: not a projector for this model ({native_messages()})")
        if not mtmd_cpp.mtmd_support_vision(self._context):
            self.close()
            raise BundleError(f"{path}: the projector has no vision tower")

    def close(self) -> None:
        if self._context:
            self._library.mtmd_free(self._context)
        self._context = None

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._chunk(pixels) as chunk:
            if self._library.mtmd_encode_chunk(self._context, chunk) != 0:
                raise GeneratorError(f"llama.cpp could not encode an image ({native_messages()})")
            tokens = int(self._library.mtmd_input_chunk_get_n_tokens(chunk))
            return np.ctypeslib.as_array(
                self._library.mtmd_get_output_embd(self._context), (tokens, self._width)
            ).copy()  # fmt: skip

    @contextlib.contextmanager
    def _chunk(self, pixels: NDArray[np.uint8]) -> Iterator[Any]:
        """llama.cpp's object for an image; nothing is left to resize, only to scale."""
        library = self._library
        height, width = pixels.shape[:2]
        bitmap = library.mtmd_bitmap_init(width, height, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
        chunks = library.mtmd_input_chunks_init()
        try:
            marker = library.mtmd_default_marker()
            text = library.mtmd_input_text(marker, len(marker), False, True)
            bitmaps = (library.mtmd_bitmap_p_ctypes * 1)(bitmap)
            if library.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1) != 0:
                raise GeneratorError(f"llama.cpp could not take an image ({native_messages()})")
            for index in range(library.mtmd_input_chunks_size(chunks)):
                chunk = library.mtmd_input_chunks_get(chunks, index)
                if library.mtmd_input_chunk_get_type(chunk) == library.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                    yield chunk
                    return
            raise GeneratorError("llama.cpp made no tokens of an image")
        finally:
            library.mtmd_input_chunks_free(chunks)
            library.mtmd_bitmap_free(bitmap)
