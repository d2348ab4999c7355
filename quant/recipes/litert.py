"""The ways to make a LiteRT tower smaller."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from .onnx import PARTS
from .recipe import EIGHT_BIT, EXACT, FOUR_BIT, HALF, Recipe, by_name, recipes_by_part

LiteRTKind = Literal["none", "half", "dynamic8", "block4"]


@dataclass(frozen=True, kw_only=True)
class LiteRTRecipe(Recipe):
    """One way to make a tower smaller. Nothing is smoothed: see docs/decisions/0029-litert.md.

    Attributes:
        kind: which function makes it.
        suffix: of the file.
        block: weights that share one scale, for block formats.
    """

    format: str = "litert"
    parts: tuple[str, ...] = PARTS
    kind: LiteRTKind
    suffix: str
    block: int = 0


# LiteRT's kernels bring what enters a layer to 8 bits whatever its weights have: golden results differ between CPUs as theirs do.
FOUR_BY_EIGHT = replace(FOUR_BIT, golden=EIGHT_BIT.golden)

LITERT_RECIPES: dict[str, LiteRTRecipe] = by_name((
    LiteRTRecipe(name="fp32", kind="none", suffix="_fp32", summary="as published, 32-bit", promise=EXACT),
    LiteRTRecipe(
        name="fp16", kind="half", suffix="_fp16", promise=HALF,
        summary="16-bit weights, which a CPU widens once and a GPU computes with",
    ),
    LiteRTRecipe(
        name="int8", kind="dynamic8", suffix="_int8", promise=EIGHT_BIT,
        summary="8-bit weights and activations, a scale for each token at run time",
    ),
    LiteRTRecipe(
        name="int4", kind="block4", suffix="_int4", block=32, promise=FOUR_BY_EIGHT,
        summary="4-bit weights in blocks of 32, 8-bit activations",
    ),
))  # fmt: skip


def parse_litert_recipes(text: str) -> dict[str, LiteRTRecipe]:
    """ "int8", or "vision=int8,text=int4", to the recipe of each tower.

    Raises:
        RecipeError: an unknown recipe or tower.
    """
    return recipes_by_part(text, PARTS, LITERT_RECIPES, "LiteRT recipe")
