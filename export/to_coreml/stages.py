"""What CoreML packages compute block by block, by the evaluator of ML programs; CoreML itself shows none of it."""

from __future__ import annotations

import numpy as np

from ..families.encoder import PATCH, POOLED, block_name
from ..families.full_precision import FullPrecision
from ..format import Array
from .mil.evaluator import Program, residual_names
from .packages import full_program, options_of
from .quietly import coremltools
from .session import PackageEncoder
from .write import OUTPUT, model_inputs


class PackageStages:
    """Stages of packages. Parity measures the converter by the tower with nothing merged."""

    def __init__(self, encoder: PackageEncoder, full: FullPrecision) -> None:
        self._encoder, self._full = encoder, full
        self.timed = encoder.native  # how long our evaluator takes is no phone's time

    def full(self, tower: str, inputs: Array) -> dict[str, Array]:
        return _stages(full_program(self._full, tower, options_of(self._encoder.towers)), inputs)

    def small(self, tower: str, inputs: Array) -> dict[str, Array]:
        program = self._encoder.program(tower)
        if self._encoder.towers[tower].merged:  # its blocks have fewer tokens
            return {
                POOLED: np.concatenate([program.run([OUTPUT], item)[0] for item in model_inputs(program, [inputs])])
            }
        return _stages(program, inputs)


def engine(encoder: PackageEncoder) -> dict[str, str]:
    """What runs a bundle's packages here."""
    version = coremltools().__version__
    target = f"iOS {encoder.towers['vision'].decisions['ios']}"
    ran = "CoreML" if encoder.native else "medge's evaluator of CoreML programs"
    return {"target": target, "engine": ran, "coremltools": version}


def _stages(program: Program, inputs: Array) -> dict[str, Array]:
    """{stage: (N, tokens, C)} and the pooled output, (N, C); packages hold (1, C, 1, tokens)."""
    names = residual_names(program)
    labels = [PATCH, *(block_name(index) for index in range(len(names) - 1)), POOLED]
    runs = [program.run([*names, OUTPUT], item) for item in model_inputs(program, [inputs])]
    found = {}
    for label, values in zip(labels, zip(*runs, strict=True), strict=True):
        stage = np.concatenate(values)
        found[label] = stage[:, :, 0].transpose(0, 2, 1) if stage.ndim == 4 else stage
    return found
