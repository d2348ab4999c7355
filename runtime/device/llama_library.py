"""llama.cpp's library through llama-cpp-python's ctypes: opened once, its chatter kept short; cores and GPU memory."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Any

from ..errors import GeneratorError, MissingExtraError, one_line

_messages: list[str] = []
_keep: list[Any] = []  # ctypes callbacks must outlive the library's use of them
_process: list[int] = []  # the one in which models are loaded


def library() -> Any:
    """llama_cpp's ctypes module, its chatter turned into a short memory of warnings and errors.

    Raises:
        MissingExtraError: llama-cpp-python is not installed.
        GeneratorError: its libraries can't be opened here, or none of them has kernels for this CPU.
    """
    try:
        import llama_cpp.llama_cpp as lib
        from llama_cpp import mtmd_cpp
    except ModuleNotFoundError as error:
        raise MissingExtraError("llama-cpp-python", "llm") from error
    except (OSError, RuntimeError) as error:  # what its loader of shared libraries raises
        raise GeneratorError(
            f"llama.cpp's library can't be opened: {one_line(error)}; medge doctor says more"
        ) from error
    if not _keep:
        from llama_cpp._ggml import libggml

        libggml.ggml_backend_reg_count.restype = ctypes.c_size_t
        if not libggml.ggml_backend_reg_count():
            raise GeneratorError("this llama-cpp-python has no kernels for this CPU; medge doctor says more")

        def remember(level: int, text: bytes, _: object) -> None:
            if level >= 3 and text.strip(b".\n "):  # GGML_LOG_LEVEL_WARN and above
                _messages.append(text.decode("utf-8", "replace").strip())
                del _messages[:-8]

        callback = lib.llama_log_callback(remember)
        _keep.append(callback)
        lib.llama_log_set(callback, None)
        mtmd_cpp.mtmd_log_set(callback, None)
        mtmd_cpp.mtmd_helper_log_set(callback, None)
        lib.llama_backend_init()
    _messages.clear()
    return lib


def check_process(*, loading: bool = False) -> None:
    """Refuse a process in which llama.cpp can't compute.

    Args:
        loading: a model will be loaded now, in this process.

    Raises:
        GeneratorError: this one was forked from it. OpenMP's threads, in which llama.cpp computes, are not copied by a fork, and
            the child would wait for them for ever, even with a model of its own.
    """
    if loading and not _process:
        _process.append(os.getpid())
    if _process and _process[0] != os.getpid():
        raise GeneratorError(
            "this process was forked from one that has loaded a language model, and can use none: fork before the first is "
            "loaded, or start processes by multiprocessing's 'spawn'"
        )


def native_messages() -> str:
    """The last warnings and errors of llama.cpp since it was entered, for an error's message."""
    return "; ".join(_messages[-3:]) or "no reason given"


def forget_messages() -> None:
    """What was warned of so far explains no later failure."""
    _messages.clear()


def kernels() -> str | None:
    """Which of a wheel's kernels llama.cpp chose for this CPU, as ggml names them ("haswell", "armv8.2_2").

    None where it was compiled with kernels for one CPU, and where this system does not say what is open.
    """
    try:
        opened = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    chosen = re.search(r"/libggml-cpu-([A-Za-z0-9_.]+)\.so$", opened, re.MULTILINE)
    return chosen[1] if chosen else None


def gpu_memory() -> int:
    """Free bytes of the GPUs that this build of llama.cpp can use; 0 where it was built without, or can't be opened."""
    try:
        lib = library()
    except (MissingExtraError, GeneratorError):
        return 0
    if not lib.llama_supports_gpu_offload():
        return 0
    from llama_cpp._ggml import libggml

    libggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    libggml.ggml_backend_dev_get.argtypes, libggml.ggml_backend_dev_get.restype = [ctypes.c_size_t], ctypes.c_void_p
    libggml.ggml_backend_dev_type.argtypes, libggml.ggml_backend_dev_type.restype = [ctypes.c_void_p], ctypes.c_int
    libggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
    free, total, found = ctypes.c_size_t(), ctypes.c_size_t(), 0
    for index in range(libggml.ggml_backend_dev_count()):
        device = libggml.ggml_backend_dev_get(index)
        if libggml.ggml_backend_dev_type(device) == 1:  # GGML_BACKEND_DEVICE_TYPE_GPU
            libggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
            found += free.value
    return found
