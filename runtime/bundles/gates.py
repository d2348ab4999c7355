"""How far from full precision a bundle may be: one table, one line a figure.

A gate reads a figure of the parity report by its dotted name and compares it with a bound. Figures that the
measurement did not produce (AUC without labels, text without a text tower) are not gated, and the report says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Gate:
    """`figure` must be `<=` or `>=` `bound`."""

    figure: str
    sense: Literal["<=", ">="]
    bound: float

    def passes(self, value: float) -> bool:
        return value <= self.bound if self.sense == "<=" else value >= self.bound


def _eight_bit(tower: str) -> tuple[Gate, ...]:
    return (
        Gate(f"{tower}.centred_cosine.mean", ">=", 0.999),
        Gate(f"{tower}.centred_cosine.min", ">=", 0.99),
    )


def _four_bit(tower: str) -> tuple[Gate, ...]:
    return (Gate(f"{tower}.centred_cosine.mean", ">=", 0.99),)


# The pixels of the bundle's own preprocessing against the reference's: one grey level, where a value lies on a border.
PIXELS = Gate("pixels.max_error", "<=", 1)
TOWER_GATES: dict[str, dict[str, tuple[Gate, ...]]] = {
    tower: {
        "fp32": (Gate(f"{tower}.max_error", "<=", 2e-5),),
        "fp16": (Gate(f"{tower}.centred_cosine.min", ">=", 0.9999),),
        "int8": _eight_bit(tower),
        "int8-static": _eight_bit(tower),
        "int4": _four_bit(tower),
        "fast": _eight_bit(tower),
        "turbo": _four_bit(tower),
        # CoreML packages, by the same bounds: what a recipe promises does not depend on the file's format.
        "w8": _eight_bit(tower),
        "w8a8": _eight_bit(tower),
        "palette8": _eight_bit(tower),
        "palette6": _eight_bit(tower),
        "w4": _four_bit(tower),
        "palette4": _four_bit(tower),
    }
    for tower in ("vision", "text")
}
# What both towers do together; the coarser of the two recipes decides.
_SCORES_8 = (Gate("scores.flips", "<=", 0.01), Gate("scores.auc_difference", "<=", 0.003))
_SCORES_4 = (Gate("scores.flips", "<=", 0.02), Gate("scores.auc_difference", "<=", 0.01))
SCORE_GATES: dict[str, tuple[Gate, ...]] = {
    "fp32": (Gate("scores.flips", "<=", 0.0), Gate("scores.auc_difference", "<=", 0.0005)),
    "fp16": (Gate("scores.flips", "<=", 0.005), Gate("scores.auc_difference", "<=", 0.001)),
    **dict.fromkeys(("int8", "int8-static", "fast", "w8", "palette8", "w8a8", "palette6"), _SCORES_8),
    **dict.fromkeys(("int4", "turbo", "w4", "palette4"), _SCORES_4),
}
COARSENESS = tuple(SCORE_GATES)  # from fine to coarse


def gates_for(recipes: dict[str, str]) -> tuple[Gate, ...]:
    """All gates of a bundle whose towers were made by these recipes: {"vision": "int8", "text": "int4"}."""
    coarsest = max(recipes.values(), key=COARSENESS.index)
    towers = [gate for tower, recipe in recipes.items() for gate in TOWER_GATES[tower][recipe]]
    return (PIXELS, *towers, *SCORE_GATES[coarsest])


# A student against its teacher: shares of what the teacher reaches on labelled images. A student is another model, so its
# embeddings are told, not gated: what it is bought for is that the answers stay as good.
STUDENT_GATES = (PIXELS, Gate("scores.accuracy_kept", ">=", 0.97), Gate("scores.auc_kept", ">=", 0.97))

# Language models, by recipe. Where a type is coarse, how far it may be depends on the model: it is held against what
# llama.cpp's own quantizer makes without a matrix, on the same held-back text.
LANGUAGE_GATES: dict[str, tuple[Gate, ...]] = {
    "f16": (Gate("text.kld.mean", "<=", 1e-4),),
    "bf16": (Gate("text.kld.mean", "<=", 1e-3),),
    "q8_0": (Gate("text.kld.mean", "<=", 0.004),),
    "q6_k": (Gate("text.kld.mean", "<=", 0.02),),
    "q5_k_m": (Gate("text.kld.ratio_to_plain", "<=", 1.0),),
    "q4_k_m": (Gate("text.kld.ratio_to_plain", "<=", 0.85),),
    "iq4_xs": (Gate("text.kld.ratio_to_plain", "<=", 0.85),),
    "q4_0": (Gate("text.kld.ratio_to_plain", "<=", 1.0),),
    "q3_k_m": (Gate("text.kld.ratio_to_plain", "<=", 1.0),),
}
PROJECTOR_GATES: dict[str, tuple[Gate, ...]] = {
    "f32": (Gate("image.centred_cosine.min", ">=", 0.9999),),
    "f16": (Gate("image.centred_cosine.min", ">=", 0.9999),),
    "bf16": (Gate("image.centred_cosine.min", ">=", 0.999),),
    "q8_0": _eight_bit("image"),
    "q5_1": _four_bit("image"),
    "q4_1": (Gate("image.centred_cosine.mean", ">=", 0.97),),
    # ONNX towers, by the bounds of MedSigLIP's; every token of every image is one embedding.
    "fp32": (Gate("image.centred_cosine.min", ">=", 0.9999),),
    "fp16": (Gate("image.centred_cosine.min", ">=", 0.9999),),
    **{name: _eight_bit("image") for name in ("int8", "int8-static", "fast")},
    **{name: _four_bit("image") for name in ("int4", "turbo")},
}
SAME_IDS = (Gate("tokenizer.ids_equal", ">=", 1), Gate("prompt.ids_equal", ">=", 1))


def generator_gates_for(recipes: dict[str, str]) -> tuple[Gate, ...]:
    """All gates of a generator bundle: {"language": "q4_k_m", "projector": "q8_0"}."""
    projector = PROJECTOR_GATES[recipes["projector"]] if "projector" in recipes else ()
    return (*SAME_IDS, *((PIXELS,) if projector else ()), *LANGUAGE_GATES[recipes["language"]], *projector)


# Replaying golden embeddings on another device: least cosine with what the exporting machine computed. Engines and
# instruction sets sum in another order (fp32: about 1e-7), and 8-bit kernels round at other places.
GOLDEN_COSINE = {
    "fp32": 0.999999,
    "fp16": 0.9999,
    "int8": 0.999,
    "int8-static": 0.999,
    "int4": 0.9999,
    "fast": 0.999,
    "turbo": 0.999,
}
