"""Error compensation (GPTQ) onto the grids that llama.cpp's quantizer chose.

llama.cpp's quantizer rounds each weight alone. Here the scales and minima that it chose stay, and with them types, sizes
and speed; only the codes are chosen anew, input by input, so that each rounding error is made up for by the weights that
follow. What counts is a layer's output on calibration data, which the inputs' second moments tell (`moments`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ...runtime.device.gguf_header import GGUFTensor, read_header
from ...runtime.progress import Progress, no_progress
from ..rounding.gptq import Spreading
from .codebooks import CODEBOOKS, CodebookGrid
from .codes import CODINGS, Grid
from .inputs import input_of
from .matrix_rows import decoded, spread_over, stored_rows
from .moments import Inputs, Moments

JUDGED_ROWS = 256  # of a matrix, spread over it, by which its error is told
# Of the mean diagonal, ten times GPTQ's own: on texts of other kinds than the calibration's it was better by a tenth, on like
# ones as good (medgemma-mini at q4_k_m and q3_k_m, ten thousand tokens).
DAMPING = 0.1
GRIDS: dict[Type, type[Grid] | type[CodebookGrid]] = {
    **dict.fromkeys(CODINGS, Grid),
    **dict.fromkeys(CODEBOOKS, CodebookGrid),
}
PART = 16 << 20  # weights of a matrix that are rounded at once: some 64 MB, in five copies


@dataclass(frozen=True)
class Compensation:
    """What compensation did to a file.

    Attributes:
        matrices: that were tried.
        changed: of these, that got new codes.
        before, after: mean over all tried of the share of a matrix's output energy that rounding loses, on positions that
            compensation was not fitted on.
    """

    matrices: int
    changed: int
    before: float
    after: float


def compensate(quantized: Path, inputs: Moments, progress: Progress = no_progress) -> Compensation:
    """Choose the codes of a quantized language model's layers anew, in its file.

    A matrix keeps its codes where its outputs did not come nearer at positions that compensation has not seen, or where no
    grid of its type is known (`GRIDS`). From a single prompt nothing is learned: all keep theirs.

    Args:
        quantized: what llama.cpp's quantizer made of the model that `inputs` runs; changed in place.
        inputs: of the model's matrices, on calibration data.
        progress: called as work advances.
    """
    full = inputs.run.full
    sources = read_header(full).tensors
    by_input = by_inputs(tensor for tensor in read_header(quantized).tensors.values() if Type[tensor.type] in GRIDS)
    matrices, errors = sum(map(len, by_input.values())), list[tuple[float, float]]()
    columns = {name: tensors[0].shape[0] for name, tensors in by_input.items()}
    for name, found in inputs.of(columns, lambda done, of: progress("gathering what layers are given", done, of)):
        rounder = Rounder(found)
        for tensor in by_input[name]:
            errors.append(_compensated((full, sources[tensor.name]), (quantized, tensor), rounder))
            progress("compensating", len(errors), matrices)
    before, after = np.array(errors, np.float64).reshape(-1, 2).mean(0) if errors else (0.0, 0.0)
    return Compensation(len(errors), sum(new < old for old, new in errors), float(before), float(after))


def by_inputs(tensors: Iterable[GGUFTensor]) -> dict[str, list[GGUFTensor]]:
    """The layers' matrices among them, by the matrix whose inputs stand for theirs."""
    found: dict[str, list[GGUFTensor]] = {}
    for tensor in tensors:
        if re.fullmatch(r"blk\.\d+\.\w+\.weight", tensor.name) and len(tensor.shape) == 2:
            found.setdefault(input_of(tensor.name), []).append(tensor)
    return found


class Rounder:
    """Rounds the matrices that have the same inputs, and tells what that costs.

    Args:
        inputs: theirs.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._spreadings: dict[int, Spreading] = {}  # queries and values may be rounded in groups of other sizes

    def compensated(self, exact: NDArray[np.float32], blocks: NDArray[np.uint8], kind: Type) -> NDArray[np.uint8]:
        """The blocks, (N, bytes), of rows, (N, K), with codes whose errors make up for each other."""
        grid = GRIDS[kind](np.ascontiguousarray(blocks), kind)
        if grid.group not in self._spreadings:
            self._spreadings[grid.group] = Spreading(self._inputs.moments, DAMPING, grid.group)
        codes = self._spreadings[grid.group].round(np.ascontiguousarray(exact.T), grid.nearest)
        return grid.stored(np.ascontiguousarray(codes.T))

    def lost(self, exact: NDArray[np.float32], blocks: NDArray[np.uint8], kind: Type) -> float:
        """The share of the rows' output energy that blocks lose, at positions that compensation has not seen."""
        judged = self._inputs.judged.T
        energy = float(np.square(exact @ judged).sum())
        return float(np.square((decoded(blocks, kind) - exact) @ judged).sum()) / max(energy, 1e-30)


def _compensated(
    source: tuple[Path, GGUFTensor], quantized: tuple[Path, GGUFTensor], rounder: Rounder
) -> tuple[float, float]:
    """Write a matrix's new codes where they bring its outputs nearer.

    Args:
        source, quantized: where the matrix lies in full precision, and where with llama.cpp's codes.
        rounder: of its inputs.

    Returns:
        the relative error of its outputs before and after, on a spread of its rows.
    """
    exact, stored = stored_rows(*source), stored_rows(*quantized, "r+")
    of, kind = (Type[tensor.type] for _, tensor in (source, quantized))
    at_once = max(PART // source[1].shape[0], 1)
    parts = [slice(begin, begin + at_once) for begin in range(0, len(stored), at_once)]
    new = np.concatenate([rounder.compensated(decoded(exact[part], of), stored[part], kind) for part in parts])
    picks = spread_over(stored, JUDGED_ROWS)
    right = decoded(exact[picks], of)
    before, after = rounder.lost(right, stored[picks], kind), rounder.lost(right, new[picks], kind)
    if not after < before:
        return before, before
    stored[:] = new
    return before, after
