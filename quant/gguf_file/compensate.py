"""Error compensation (GPTQ) onto the grids that llama.cpp's quantizer chose.

llama.cpp's quantizer rounds each weight alone. Here the scales and minima that it chose stay, and with them types, sizes
and speed; only the codes are chosen anew, input by input, so that each rounding error is made up for by the weights that
follow. What counts is a layer's output on calibration data, which the inputs' second moments tell (`moments`).
"""

from __future__ import annotations

import re
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
from .moments import Moments

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
    sources, by_input = read_header(full).tensors, _by_input(quantized)
    matrices, errors = sum(map(len, by_input.values())), list[tuple[float, float]]()
    columns = {name: tensors[0].shape[0] for name, tensors in by_input.items()}
    for name, found in inputs.of(columns, lambda done, of: progress("gathering what layers are given", done, of)):
        spreadings: dict[int, Spreading] = {}  # queries and values may be rounded in groups of other sizes
        for tensor in by_input[name]:
            source, group = (full, sources[tensor.name]), GRIDS[Type[tensor.type]].group
            if group not in spreadings:
                spreadings[group] = Spreading(found.moments, DAMPING, group)
            spreading = spreadings[group]
            errors.append(_compensated(source, (quantized, tensor), spreading, found.judged))
            progress("compensating", len(errors), matrices)
    before, after = np.array(errors, np.float64).reshape(-1, 2).mean(0) if errors else (0.0, 0.0)
    return Compensation(len(errors), sum(new < old for old, new in errors), float(before), float(after))


def _by_input(quantized: Path) -> dict[str, list[GGUFTensor]]:
    """The layers' matrices of types whose grids are known, by the matrix whose inputs stand for theirs."""
    found: dict[str, list[GGUFTensor]] = {}
    for name, tensor in read_header(quantized).tensors.items():
        if re.fullmatch(r"blk\.\d+\.\w+\.weight", name) and len(tensor.shape) == 2 and Type[tensor.type] in GRIDS:
            found.setdefault(input_of(name), []).append(tensor)
    return found


def _compensated(
    source: tuple[Path, GGUFTensor], quantized: tuple[Path, GGUFTensor], spreading: Spreading, judged: NDArray[np.float32]
) -> tuple[float, float]:  # fmt: skip
    """Write a matrix's new codes where they bring its outputs nearer.

    Args:
        source, quantized: where the matrix lies in full precision, and where with llama.cpp's codes.
        spreading: of its inputs.
        judged: (N, columns), inputs that `spreading` was not made of.

    Returns:
        the relative error of its outputs before and after, on a spread of its rows.
    """
    exact, stored = stored_rows(*source), stored_rows(*quantized, "r+")
    of, kind = (Type[tensor.type] for _, tensor in (source, quantized))
    at_once = max(PART // spreading.order.size, 1)

    def compensated(begin: int) -> NDArray[np.uint8]:
        part = slice(begin, begin + at_once)
        grid = GRIDS[kind](np.ascontiguousarray(stored[part]), kind)
        codes = spreading.round(np.ascontiguousarray(decoded(exact[part], of).T), grid.nearest)
        return grid.stored(np.ascontiguousarray(codes.T))

    def lost(blocks: NDArray[np.uint8]) -> float:
        return float(np.square((decoded(blocks, kind) - right) @ judged.T).sum()) / energy

    new = np.concatenate([compensated(begin) for begin in range(0, len(stored), at_once)])
    picks = spread_over(stored, JUDGED_ROWS)
    right = decoded(exact[picks], of)
    energy = max(float(np.square(right @ judged.T).sum()), 1e-30)
    before, after = lost(stored[picks]), lost(new[picks])
    if not after < before:
        return before, before
    stored[:] = new
    return before, after
