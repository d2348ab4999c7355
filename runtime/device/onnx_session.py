"""A thin wrapper of ONNX Runtime: one place for its options, devices and errors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError, RecipeError, one_line
from .cpu import usable_cores
from .onnx_outline import Interface, check_onnx

Tensors = Mapping[str, NDArray[Any]]
# What ONNX Runtime has no CUDA kernel for: such nodes run on the CPU after all, with a copy before and after each. An int8
# encoder was slower with an H200 than without, one in fp32 several times faster; benchmarks/one_gpu.py compares them.
CPU_ONLY = {("", "MatMulInteger"), ("", "DynamicQuantizeLinear")}


class Session(Protocol):
    """What the encoder needs of an inference engine; ONNX Runtime is one, a fake in tests another."""

    def run(self, outputs: Sequence[str], inputs: Tensors) -> list[NDArray[Any]]: ...


class OrtSession:
    """An ONNX file opened with ONNX Runtime.

    Args:
        model: the file, which is checked first (see `onnx_outline`), or bytes of the caller's own making (how parity opens a
            copy with more outputs).
        interface: how the file will be called, as its manifest says; None where nothing is said.
        threads: intra-op threads; where None, the physical cores, or the fewer ones that this process is confined to.
        device: "cpu", "cuda", or "auto" for CUDA where this build of ONNX Runtime has it and would be the faster.
        fast: hold a second copy of the weights, packed for this CPU, and keep memory between runs: some per cent faster
            for about half as much memory again. See benchmarks/full_size.py.
        sleeping: threads that wait for one another sleep. By themselves they turn in a loop, which is some per cent faster where
            the cores have nothing else to do, and takes them from others where they have (benchmarks/station_load.py).

    Raises:
        BundleError: the file can't be opened, or is none that medge could have written.
        RecipeError: the device isn't there.
    """

    def __init__(
        self, model: Path | bytes, *, interface: Interface | None = None, threads: int | None = None,
        device: str = "auto", fast: bool = False, sleeping: bool = False,
    ) -> None:  # fmt: skip
        self._name = "the model" if isinstance(model, bytes) else str(model)
        operators = check_onnx(model, interface).operators if isinstance(model, Path) else ()
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3
        # ONNX Runtime's own choice knows nothing of `taskset` or a container's cores: its threads would wait for one another.
        if threads is None and usable_cores() < (os.cpu_count() or 1):
            threads = usable_cores()
        if threads is not None:
            options.intra_op_num_threads = threads
        if not fast:
            options.enable_cpu_mem_arena = False
            options.add_session_config_entry("session.disable_prepacking", "1")
        if sleeping:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = ort.get_available_providers()
        if device == "auto" and CPU_ONLY & set(operators):
            device = "cpu"
        wanted = {"cpu": [], "cuda": ["CUDAExecutionProvider"], "auto": ["CUDAExecutionProvider"]}.get(device)
        if wanted is None or (device == "cuda" and wanted[0] not in available):
            raise RecipeError(f"device {device!r} is not available; this ONNX Runtime offers {', '.join(available)}")
        providers = [*(p for p in wanted if p in available), "CPUExecutionProvider"]
        try:
            self._session = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=providers
            )
        except Exception as error:  # ONNX Runtime's exception types are private
            raise self._failed("open", error) from error

    def run(self, outputs: Sequence[str], inputs: Tensors) -> list[NDArray[Any]]:
        """What the graph makes of its inputs.

        Raises:
            BundleError: ONNX Runtime can't run it, or there is no memory for it.
        """
        try:
            return [np.asarray(value) for value in self._session.run(list(outputs), dict(inputs))]
        except Exception as error:
            raise self._failed("run", error) from error

    def _failed(self, what: str, error: Exception) -> BundleError:
        reason = one_line(" ".join(str(error).split()))  # nodes' names are in it
        return BundleError(f"{self._name}: ONNX Runtime can't {what} it ({reason})")
