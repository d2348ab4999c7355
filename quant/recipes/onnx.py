"""The ways to make a tower smaller, as data: to add one, add a line, and a function if it is of a new kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...runtime.errors import RecipeError

Kind = Literal["none", "half", "dynamic8", "static8", "block4"]


@dataclass(frozen=True)
class Recipe:
    """One way to make a tower smaller.

    Attributes:
        name: what the user says.
        kind: which function makes it.
        suffix: of the ONNX file; transformers.js finds its `dtype` by it (q8, int8, fp16, q4).
        batch_invariant: whether an input's result is the same alone and in a batch.
        summary: for tables and help.
        smooth: SmoothQuant's migration strength; 0 for none (Xiao et al. 2023, eq. 4).
        block: weights that share one scale, for block formats.
        merge_within: similar image tokens are merged as far as the gates of this recipe allow; none where empty.
    """

    name: str
    kind: Kind
    suffix: str
    batch_invariant: bool
    summary: str
    smooth: float = 0.0
    block: int = 0
    merge_within: str = ""


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", "none", "", True, "as published, 32-bit"),
        Recipe("fp16", "half", "_fp16", True, "16-bit, layers that could overflow kept in 32"),
        Recipe("int8", "dynamic8", "_quantized", False, "8-bit weights and activations, scales at run time", 0.5),
        Recipe("int8-static", "static8", "_int8", True, "8-bit weights and activations, scales from calibration", 0.5),
        Recipe("int4", "block4", "_q4", True, "4-bit weights in blocks of 32, activations in 32 bits", block=32),
        # With tokens merged, a rounding can send a token elsewhere: no batch is quite what single images give.
        Recipe(
            "fast",
            "dynamic8",
            "_quantized",
            False,
            "int8, similar patches merged within int8's gate",
            0.5,
            merge_within="int8",
        ),
        Recipe(
            "turbo",
            "block4",
            "_q4",
            False,
            "int4, similar patches merged within int4's gate",
            block=32,
            merge_within="int4",
        ),
    )
}


def names_by_tower(text: str) -> dict[str, str]:
    """ "int8", or "vision=int8,text=int4", to the name of each tower's recipe, whichever table it stands in.

    Raises:
        RecipeError: an unknown tower, or one of which nothing is said.
    """
    chosen: dict[str, str] = {}
    for part in text.split(","):
        tower, equals, name = part.strip().rpartition("=")
        for key in [tower] if equals else ["vision", "text"]:
            chosen[key] = name
    if unknown := sorted(set(chosen) - {"vision", "text"}):
        raise RecipeError(f"there is no tower {unknown[0]!r} in {text!r}; say vision=RECIPE,text=RECIPE")
    if missing := sorted({"vision", "text"} - set(chosen)):
        raise RecipeError(f"{text!r} says nothing of the {missing[0]} tower; say vision=RECIPE,text=RECIPE")
    return chosen


def parse_recipes(text: str) -> dict[str, Recipe]:
    """The recipe of each tower, as `names_by_tower` reads it.

    Raises:
        RecipeError: an unknown recipe or tower.
    """
    chosen = names_by_tower(text)
    for name in chosen.values():
        if name not in RECIPES:
            raise RecipeError(f"there is no recipe {name!r}; choose from {', '.join(RECIPES)}")
    return {tower: RECIPES[name] for tower, name in chosen.items()}
