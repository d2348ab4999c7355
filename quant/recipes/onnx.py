"""The ways to make an ONNX tower smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .recipe import EIGHT_BIT, EXACT, FOUR_BIT, HALF, Recipe, by_name, recipes_by_part

Kind = Literal["none", "half", "dynamic8", "static8", "block4"]
PARTS = ("vision", "text")


@dataclass(frozen=True, kw_only=True)
class OnnxRecipe(Recipe):
    """One way to make a tower smaller; a language model's vision tower with its projector can be one, too.

    Attributes:
        kind: which function makes it.
        suffix: of the ONNX file; transformers.js finds its `dtype` by it (q8, int8, fp16, q4).
        batch_invariant: whether an input's result is the same alone and in a batch.
        smooth: SmoothQuant's migration strength; 0 for none (Xiao et al. 2023, eq. 4).
        block: weights that share one scale, for block formats.
        merge_within: whether similar image tokens are merged as far as this recipe's gates allow.
    """

    format: str = "onnx"
    parts: tuple[str, ...] = (*PARTS, "projector")
    kind: Kind
    suffix: str
    batch_invariant: bool = True
    smooth: float = 0.0
    block: int = 0
    merge_within: bool = False


def _int8(name: str, summary: str, *, merge_within: bool = False) -> OnnxRecipe:
    return OnnxRecipe(
        name=name, kind="dynamic8", suffix="_quantized", batch_invariant=False, smooth=0.5, summary=summary,
        promise=EIGHT_BIT, merge_within=merge_within,
    )  # fmt: skip


def _int4(name: str, summary: str, *, merge_within: bool = False) -> OnnxRecipe:
    # With tokens merged, a rounding can send a token elsewhere: no batch is quite what single images give.
    return OnnxRecipe(
        name=name, kind="block4", suffix="_q4", block=32, summary=summary, promise=FOUR_BIT,
        batch_invariant=not merge_within, merge_within=merge_within,
    )  # fmt: skip


ONNX_RECIPES: dict[str, OnnxRecipe] = by_name((
    OnnxRecipe(name="fp32", kind="none", suffix="", summary="as published, 32-bit", promise=EXACT),
    OnnxRecipe(
        name="fp16", kind="half", suffix="_fp16", summary="16-bit, layers that could overflow kept in 32", promise=HALF
    ),
    _int8("int8", "8-bit weights and activations, scales at run time"),
    OnnxRecipe(
        name="int8-static", kind="static8", suffix="_int8", smooth=0.5, promise=EIGHT_BIT,
        summary="8-bit weights and activations, scales from calibration",
    ),
    _int4("int4", "4-bit weights in blocks of 32, activations in 32 bits"),
    _int8("fast", "int8, similar patches merged within int8's gate", merge_within=True),
    _int4("turbo", "int4, similar patches merged within int4's gate", merge_within=True),
))  # fmt: skip


def parse_onnx_recipes(text: str) -> dict[str, OnnxRecipe]:
    """ "int8", or "vision=int8,text=int4", to the recipe of each tower.

    Raises:
        RecipeError: an unknown recipe or tower.
    """
    return recipes_by_part(text, PARTS, ONNX_RECIPES)
