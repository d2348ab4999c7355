"""Parity of CoreML packages: their stages by the evaluator of ML programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles.parity_report import ParityReport
from ...runtime.progress import Progress, no_progress
from ..families.siglip import PATCH, POOLED, Reference, block_name
from ..source.samples import Samples
from ..to_coreml.mil_evaluator import Program, residual_names
from ..to_coreml.quietly import coremltools
from ..to_coreml.session import PackageEncoder
from ..to_coreml.write import OUTPUT, model_inputs
from .encoder import measure


class PackageStages:
    """Stages of packages by our evaluator; CoreML itself shows none of them.

    Args:
        full: the fp32 program of each tower.
    """

    def __init__(self, encoder: PackageEncoder, full: Mapping[str, Program]) -> None:
        self._encoder, self._full = encoder, full
        self.timed = encoder.native  # how long our evaluator takes is no phone's time

    def full(self, tower: str, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return _stages(self._full[tower], inputs)

    def small(self, tower: str, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        program = self._encoder.program(tower)
        if self._encoder.manifest.towers[tower].merged:  # its blocks have fewer tokens
            return {
                POOLED: np.concatenate([program.run([OUTPUT], item)[0] for item in model_inputs(program, [inputs])])
            }
        return _stages(program, inputs)

    def engine(self) -> dict[str, str]:
        version = coremltools().__version__
        target = f"iOS {self._encoder.manifest.towers['vision'].decisions['ios']}"
        if self._encoder.native:
            return {"target": target, "engine": "CoreML", "coremltools": version}
        return {"target": target, "engine": "medge's evaluator of CoreML programs", "coremltools": version}


def _stages(program: Program, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """{stage: (N, tokens, C)} and the pooled output, (N, C); packages hold (1, C, 1, tokens)."""
    names = residual_names(program)
    labels = [PATCH, *(block_name(index) for index in range(len(names) - 1)), POOLED]
    runs = [program.run([*names, OUTPUT], item) for item in model_inputs(program, [inputs])]
    found = {}
    for label, values in zip(labels, zip(*runs, strict=True), strict=True):
        stage = np.concatenate(values)
        found[label] = stage[:, :, 0].transpose(0, 2, 1) if stage.ndim == 4 else stage
    return found


def measure_packages(
    encoder: PackageEncoder, reference: Reference, samples: Samples, full: Mapping[str, Program], *,
    prompts: dict[str, list[str]] | None = None, progress: Progress = no_progress,
) -> ParityReport:  # fmt: skip
    """Hold a bundle's packages against PyTorch, as `measure` does ONNX towers."""
    return measure(encoder, reference, samples, stages=PackageStages(encoder, full), prompts=prompts, progress=progress)
