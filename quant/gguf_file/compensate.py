"""Error compensation (GPTQ) onto the grids that llama.cpp's quantizer chose.

llama.cpp's quantizer rounds each weight alone. Here the scales and minima that it chose stay, and with them types, sizes
and speed; only the codes are chosen anew, input by input, so that each rounding error is made up for by the weights that
follow. What counts is a layer's output on calibration data: for that the inputs' second moments, (K, K), are gathered,
of as many layers at once as a budget of memory allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ...runtime.device.gguf_header import GGUFTensor, read_header
from ...runtime.generator.engine import BATCH, Engine
from ...runtime.generator.prompt import Item
from ...runtime.progress import Progress, no_progress
from ..rounding.gptq import Spreading
from .codes import CODINGS, Grid
from .inputs import STRIDE, evened, observer
from .matrix_rows import decoded, spread_over, stored_rows

# Bytes of second moments that are kept at once; those of one layer of a 4B are half a gigabyte. Factorizing the largest takes
# three more gigabytes for a moment.
BUDGET = 4 << 30
PROMPTS = 64  # that inputs are gathered on, spread over those given
# Of so many prompts one is left out: by some of its positions it is told whether a matrix's outputs did come nearer.
JUDGED_PROMPT = 8
JUDGED_POSITIONS = 512
JUDGED_ROWS = 256  # of a matrix, spread over it, by which its error is told
# Of the mean diagonal, ten times GPTQ's own: on texts of other kinds than the calibration's it was better by a tenth, on like
# ones as good (medgemma-mini at q4_k_m and q3_k_m, ten thousand tokens).
DAMPING = 0.1
PART = 16 << 20  # weights of a matrix that are rounded at once: some 64 MB, in five copies
# Matrices that are multiplied with the same inputs as another: theirs are gathered once.
SAME_INPUTS = {"attn_k": "attn_q", "attn_v": "attn_q", "ffn_gate": "ffn_up"}


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


class _Inputs:
    """Second moments of some matrices' inputs, (columns, columns), and positions to judge by, (N, columns).

    Attributes:
        judging: whether the prompt that runs is one to judge by.
    """

    def __init__(self) -> None:
        self.moments: dict[str, NDArray[np.float32]] = {}
        self.judged: dict[str, list[NDArray[np.float32]]] = {}
        self.judging = False

    def ask_for(self, columns: Mapping[str, int]) -> None:
        """Begin to gather the inputs of these matrices."""
        self.moments = {name: np.zeros((count, count), np.float32) for name, count in columns.items()}
        self.judged = {name: [] for name in columns}

    def add(self, name: str, rows: NDArray[np.float32]) -> None:
        if not len(rows):  # the last layer's, of a step whose logits nobody asked for
            return
        even = evened(rows)
        if not self.judging:
            self.moments[name] += even.T @ even
        elif (room := JUDGED_POSITIONS - sum(map(len, self.judged[name]))) > 0:
            self.judged[name].append(even[:: -(-len(even) // room)])


def compensate(
    full: Path, quantized: Path, projector: Path | None, prompts: Callable[[Engine], Sequence[Sequence[Item]]], *,
    budget: int = BUDGET, threads: int | None = None, progress: Progress = no_progress,
) -> Compensation:  # fmt: skip
    """Choose the codes of a quantized language model's layers anew, in its file.

    A matrix keeps its codes where its outputs did not come nearer at positions that compensation has not seen, or where its
    type has no codes of single weights (`codes.CODINGS`). From a single prompt nothing is learned: all keep theirs.

    Args:
        full, projector: full-precision GGUF files of the model and of its vision tower.
        quantized: what llama.cpp's quantizer made of `full`; changed in place.
        prompts: makes the prompts that inputs are gathered on, given the engine to tokenize with.
        budget: bytes of second moments that are kept at once; a smaller one takes more passes over the prompts.
        threads: as in `Engine`.
        progress: called as work advances.
    """
    sources, matrices = read_header(full).tensors, _matrices(quantized)
    inputs, errors = _Inputs(), list[tuple[float, float]]()
    with Engine(
        full, projector, context=BATCH, threads=threads, measuring=True,
        observer=observer(inputs.add, lambda name: name in inputs.moments),
    ) as engine:  # fmt: skip
        given = prompts(engine)
        work = [given[index] for index in np.unique(np.linspace(0, len(given) - 1, PROMPTS).astype(int))]
        passes = list(_passes(_by_input(matrices), budget)) if len(work) > 1 else []
        steps = len(passes) * len(work) + len(matrices)
        done = 0
        for group in passes:
            inputs.ask_for({name: tensors[0].shape[0] for name, tensors in group.items()})
            for number, items in enumerate(work):
                inputs.judging = number % JUDGED_PROMPT == 0
                # Without an output a position skips the last layer's last matrices.
                engine.observe_prompt(items, stride=STRIDE)
                done += 1
                progress("compensating", done, steps)
            for name, tensors in group.items():
                spreading = Spreading(inputs.moments.pop(name), DAMPING)
                judged = np.concatenate(inputs.judged.pop(name))
                for tensor in tensors:
                    source = full, sources[tensor.name]
                    errors.append(_compensated(source, (quantized, tensor), spreading, judged))
                    done += 1
                    progress("compensating", done, steps)
    before, after = np.array(errors, np.float64).reshape(-1, 2).mean(0) if errors else (0.0, 0.0)
    return Compensation(len(errors), sum(new < old for old, new in errors), float(before), float(after))


def input_of(matrix: str) -> str:
    """The matrix whose inputs stand for those of this one."""
    return re.sub(r"\.(\w+)\.weight$", lambda found: f".{SAME_INPUTS.get(found[1], found[1])}.weight", matrix)


def _matrices(quantized: Path) -> list[GGUFTensor]:
    """The layers' matrices whose types have codes of single weights."""
    return [
        tensor
        for name, tensor in read_header(quantized).tensors.items()
        if re.fullmatch(r"blk\.\d+\.\w+\.weight", name) and len(tensor.shape) == 2 and Type[tensor.type] in CODINGS
    ]


def _by_input(matrices: Sequence[GGUFTensor]) -> dict[str, list[GGUFTensor]]:
    """{the matrix whose inputs are gathered: those that are multiplied with them}, layer by layer."""
    found: dict[str, list[GGUFTensor]] = {}
    for tensor in sorted(matrices, key=lambda one: int(one.name.split(".")[1])):
        found.setdefault(input_of(tensor.name), []).append(tensor)
    return found


def _passes(by_input: Mapping[str, list[GGUFTensor]], budget: int) -> Iterator[dict[str, list[GGUFTensor]]]:
    """As many inputs at a time as their second moments fit the budget, and one at least."""
    group: dict[str, list[GGUFTensor]] = {}
    held = 0
    for name, tensors in by_input.items():
        size = 4 * tensors[0].shape[0] ** 2
        if group and held + size > budget:
            yield group
            group, held = {}, 0
        group[name] = tensors
        held += size
    if group:
        yield group


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
        grid = Grid(np.ascontiguousarray(stored[part]), kind)
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
