"""The ways to make a CoreML package smaller, as data: to add one, add a line, and a function if it is of a new kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...runtime.errors import RecipeError
from .onnx import names_by_tower

CoreMLKind = Literal["half", "linear", "blocks", "palette", "linear8_activations8"]
IOS = (17, 18)  # what medge writes packages for
GROUP = 16  # output channels that share a look-up table; divides every width of SigLIP (4304 = 16 * 269)


@dataclass(frozen=True)
class CoreMLRecipe:
    """One way to make a package smaller; whatever is not compressed is fp16.

    Attributes:
        name: what the user says.
        kind: which function makes it.
        ios: the oldest system that runs it; macOS is four less (iOS 18 is macOS 15 only by name: both come out together).
        bits: of a weight.
        block: input channels that share one scale, 0 for all of them.
        room: bytes that the most sensitive layers get in addition, as a share of what the bits take.
        summary: for tables and help.
    """

    name: str
    kind: CoreMLKind
    ios: int
    bits: int
    summary: str
    block: int = 0
    room: float = 0.0


COREML_RECIPES: dict[str, CoreMLRecipe] = {
    recipe.name: recipe
    for recipe in (
        CoreMLRecipe("fp16", "half", 17, 16, "16-bit, layers that could overflow or drift kept in 32"),
        CoreMLRecipe("w8", "linear", 17, 8, "8-bit weights, a scale per output channel"),
        CoreMLRecipe("w4", "blocks", 18, 4, "4-bit weights in blocks of 32", block=32),
        CoreMLRecipe("palette8", "palette", 18, 8, "tables of 256 values for 16 channels"),
        CoreMLRecipe("palette6", "palette", 18, 6, "tables of 64 values, sensitive layers 8 bits", room=0.05),
        CoreMLRecipe("palette4", "palette", 18, 4, "tables of 16 values, sensitive layers more bits", room=0.1),
        CoreMLRecipe(
            "w8a8", "linear8_activations8", 17, 8, "8-bit weights and activations, for chips that multiply them"
        ),
    )
}


def parse_coreml_recipes(text: str, ios: int) -> dict[str, CoreMLRecipe]:
    """ "w8", or "vision=palette4,text=w8", to the recipe of each tower.

    Raises:
        RecipeError: an unknown recipe or tower, or one that needs a newer system than `ios`.
    """
    if ios not in IOS:
        raise RecipeError(f"there is no iOS target {ios}; choose from {', '.join(map(str, IOS))}")
    chosen = names_by_tower(text)
    for name in chosen.values():
        if name not in COREML_RECIPES:
            raise RecipeError(f"there is no CoreML recipe {name!r}; choose from {', '.join(COREML_RECIPES)}")
        if (needed := COREML_RECIPES[name].ios) > ios:
            raise RecipeError(f"the recipe {name!r} needs iOS {needed} (say --ios {needed}), not {ios}")
    return {tower: COREML_RECIPES[name] for tower, name in chosen.items()}
