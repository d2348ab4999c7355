"""Choose a type for each tensor so that a file has the size that is asked for, where it hurts least.

Measured: each block of layers, and the token embedding, is quantized alone, coarsely, while all else stays as it is,
and the KL divergence on calibration text that this causes is that part's sensitivity. What another type would cost a
part is that figure scaled by the type's own rounding error, after compensation where there will be any, against the
coarse type's. Then `allocate` gives bits where they help most.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from math import prod
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ...runtime.device.gguf_header import GGUFTensor, read_header
from ...runtime.errors import RecipeError
from ...runtime.generator.engine import Engine
from ...runtime.progress import Progress, no_progress
from ..recipes.gguf import GGUF_RECIPES
from ..rounding.allocate import Choice, allocate
from .compensate import Rounder, by_inputs
from .importance import Importance
from .matrix_rows import decoded, spread_over, stored_rows
from .moments import Moments
from .quantize import encode_blocks, quantize_language

# From coarse to fine; of each pair the first is taken where 256 divides the width, the second elsewhere.
LADDER = (
    ("IQ2_XXS", "Q4_0"),
    ("IQ2_XS", "Q4_0"),
    ("IQ2_S", "Q4_0"),
    ("Q2_K", "Q4_0"),
    ("IQ3_XXS", "Q4_0"),
    ("IQ3_S", "Q4_0"),
    ("Q3_K", "Q4_0"),
    ("IQ4_XS", "IQ4_NL"),
    ("Q4_K", "Q5_0"),
    ("Q5_K", "Q5_1"),
    ("Q6_K", "Q8_0"),
    ("Q8_0", "Q8_0"),
)
# Coarse enough to be seen when one part has it, and not so coarse that nothing of the part is left.
TRIAL = ("Q3_K", "Q4_0")
TRIAL_TOKENS = 512
STRIDE = 4  # of the tokens whose logits are compared: a large vocabulary's cost more than the layers
SAMPLED_ROWS = 256


class Sensitivity:
    """What each type would cost each tensor of a model: measured when it is first needed, for every size that is asked for.

    Args:
        full: the model as a full-precision GGUF.
        importance: its matrix.
        texts: of the calibration.
        scratch: a folder for trial files.
        moments: of its matrices' inputs, where rounding will be compensated.
        progress: called as work advances.
    """

    def __init__(
        self, full: Path, importance: Importance, texts: Sequence[str], scratch: Path, *, moments: Moments | None = None,
        progress: Progress = no_progress,
    ) -> None:  # fmt: skip
        self._full, self._importance, self._texts, self._scratch = full, importance, texts, scratch
        self._moments, self._progress = moments, progress
        self._matrices, self._fixed = _matrices(full)

    def types(self, size: int) -> dict[str, str]:
        """{tensor: ggml type} for `quantize_language`, of a file of at most `size` bytes.

        Raises:
            RecipeError: even the coarsest types make a larger file. Nothing is measured then: of a large model that takes hours.
        """
        check_size(self._full, size)
        return {name: choice.value for name, choice in allocate(self._options, size, self._fixed).items()}

    @cached_property
    def _options(self) -> dict[str, list[Choice[str]]]:
        trials = {name: self._plain_error(tensor, _fitting(TRIAL, tensor)) for name, tensor in self._matrices.items()}
        of_parts = measure_sensitivity(
            self._full, self._importance, self._matrices, trials, self._texts, self._scratch, self._progress
        )
        errors = self._compensated_errors()
        for name, tensor in self._matrices.items():
            if name not in errors:
                errors[name] = {kind: self._plain_error(tensor, kind) for kind in _kinds(tensor)}
        return {
            name: _choices(tensor, {kind: error * of_parts[group_of(name)] for kind, error in errors[name].items()})
            for name, tensor in self._matrices.items()
        }

    def _plain_error(self, tensor: GGUFTensor, kind: str) -> float:
        """The share of a matrix's output energy that rounding loses, as far as the importance matrix tells."""
        rows, weight = self._rows(tensor)
        back = decoded(encode_blocks(rows, Type[kind], weight), Type[kind])
        return float((((back - rows) ** 2) @ weight).sum()) / max(float(((rows**2) @ weight).sum()), 1e-30)

    def _compensated_errors(self) -> dict[str, dict[str, float]]:
        """{matrix: {type: the same after compensation}} of the layers' matrices; it helps some types more than others."""
        found: dict[str, dict[str, float]] = {}
        if self._moments is None:
            return found
        by_input = by_inputs(self._matrices.values())
        columns = {name: tensors[0].shape[0] for name, tensors in by_input.items()}
        for name, inputs in self._moments.of(columns, partial(self._progress, "gathering what layers are given")):
            rounder = Rounder(inputs)
            for tensor in by_input[name]:
                rows, weight = self._rows(tensor)
                found[tensor.name] = {}
                for kind in _kinds(tensor):
                    blocks = encode_blocks(rows, Type[kind], weight)
                    new = rounder.compensated(rows, blocks, Type[kind])
                    found[tensor.name][kind] = rounder.lost(rows, new, Type[kind])
                self._progress("rounding errors of types", len(found), sum(map(len, by_input.values())))
        return found

    def _rows(self, tensor: GGUFTensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A spread of a matrix's rows, (N, columns), and how much each column weighs, (columns,)."""
        rows = stored_rows(self._full, tensor)
        values = decoded(rows[spread_over(rows, SAMPLED_ROWS)], Type[tensor.type])
        known = tensor.name in self._importance.sums
        return values, self._importance.mean(tensor.name) if known else np.ones(tensor.shape[0], np.float32)


def size_of(full: Path, bits: float) -> int:
    """Bytes of a language model's file whose tensors take so many bits a weight, its vocabulary and the like beside them."""
    tensors = read_header(full).tensors.values()
    beside = full.stat().st_size - sum(tensor.bytes for tensor in tensors)
    return beside + int(sum(tensor.values for tensor in tensors) * bits / 8)


def check_size(full: Path, size: int) -> None:
    """Refuse a size that no choice of types reaches.

    Raises:
        RecipeError: it is one.
    """
    matrices, fixed = _matrices(full)
    if (least := fixed + sum(_bytes(tensor, _kinds(tensor)[0]) for tensor in matrices.values())) > size:
        narrow = any(tensor.shape[0] % 256 for tensor in matrices.values())
        raise RecipeError(
            f"{size:,} bytes are too small a size: in the coarsest types this model takes {least:,}"
            + ("; types below four bits need rows of a multiple of 256 values, and it has others" if narrow else "")
        )


def group_of(name: str) -> str:
    """The part that a tensor's sensitivity is measured with: its layer, or the tensor itself outside the layers."""
    found = re.match(r"blk\.\d+\.", name)
    return found[0] if found else name


def measure_sensitivity(
    full: Path, importance: Importance, matrices: Mapping[str, GGUFTensor], errors: Mapping[str, float], texts: Sequence[str],
    scratch: Path, progress: Progress,
) -> dict[str, float]:  # fmt: skip
    """{part: KL divergence per unit of relative rounding error} of each part quantized alone.

    `errors` has the relative rounding error of each matrix in the type of the trial.
    """
    keep = {name: "BF16" for name in matrices}
    with Engine(full, context=TRIAL_TOKENS, measuring=True) as engine:
        ids = [2, *(token for text in texts for token in engine.tokenize(text))][:TRIAL_TOKENS]
        exact = _log_softmax(engine.logits(ids, stride=STRIDE))
    groups = sorted({group_of(name) for name in matrices})
    found = {}
    for number, group in enumerate(groups):
        coarse = {name: _fitting(TRIAL, tensor) for name, tensor in matrices.items() if group_of(name) == group}
        trial = scratch / "trial.gguf"
        quantize_language(full, trial, GGUF_RECIPES["q4_k_m"], importance=importance, types={**keep, **coarse})
        with Engine(trial, context=TRIAL_TOKENS, measuring=True) as engine:
            other = _log_softmax(engine.logits(ids, stride=STRIDE))
        kld = float((np.exp(exact) * (exact - other)).sum(-1).mean())
        found[group] = kld / max(sum(errors[name] for name in coarse), 1e-12)
        trial.unlink()
        progress("sensitivity of layers", number + 1, len(groups))
    return found


def _matrices(full: Path) -> tuple[dict[str, GGUFTensor], int]:
    """What types are chosen for, and the bytes of all else: norms in float32, and the head of the file with its vocabulary."""
    found = {name: tensor for name, tensor in read_header(full).tensors.items() if len(tensor.shape) == 2}
    return found, full.stat().st_size - sum(tensor.bytes for tensor in found.values())


def _bytes(tensor: GGUFTensor, kind: str) -> int:
    """What a tensor takes in a type."""
    block, size = gguf.GGML_QUANT_SIZES[Type[kind]]
    return prod(tensor.shape) // block * size


def _kinds(tensor: GGUFTensor) -> list[str]:
    """The types that a tensor can take, from coarse to fine."""
    return list(dict.fromkeys(_fitting(pair, tensor) for pair in LADDER))


def _choices(tensor: GGUFTensor, errors: Mapping[str, float]) -> list[Choice[str]]:
    """The same with their sizes and with what is expected of each."""
    return [Choice(kind, _bytes(tensor, kind), errors[kind]) for kind in _kinds(tensor)]


def _fitting(pair: tuple[str, str], tensor: GGUFTensor) -> str:
    return pair[0] if tensor.shape[0] % 256 == 0 or pair[0] == pair[1] else pair[1]


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide
