"""A tensor of ggml, llama.cpp's library, as its callbacks hand it over."""

from __future__ import annotations

import ctypes


class GGMLTensor(ctypes.Structure):
    """`struct ggml_tensor` (ggml/include/ggml.h), as far as it is read here."""

    _fields_ = (
        ("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * 4), ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int), ("op_params", ctypes.c_int32 * 16), ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10), ("view_src", ctypes.c_void_p), ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p), ("name", ctypes.c_char * 64),
    )  # fmt: skip


def ggml_build() -> tuple[str, str]:
    """Version and commit of the ggml that is installed with llama-cpp-python, as the library says them."""
    from llama_cpp._ggml import libggml

    for name in ("ggml_version", "ggml_commit"):
        getattr(libggml, name).restype = ctypes.c_char_p
    return libggml.ggml_version().decode(), libggml.ggml_commit().decode()
