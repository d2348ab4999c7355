"""The ways to make a CoreML package smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...runtime.errors import RecipeError
from .onnx import PARTS
from .recipe import EIGHT_BIT, FOUR_BIT, HALF, Recipe, by_name, recipes_by_part

CoreMLKind = Literal["half", "linear", "blocks", "palette", "linear8_activations8"]
IOS = (17, 18)  # what medge writes packages for
GROUP = 16  # output channels that share a look-up table; divides every width of SigLIP (4304 = 16 * 269)


@dataclass(frozen=True, kw_only=True)
class CoreMLRecipe(Recipe):
    """One way to make a package smaller; whatever is not compressed is fp16.

    Attributes:
        kind: which function makes it.
        ios: the oldest system that runs it; macOS is four less (iOS 18 is macOS 15 only by name: both come out together).
        bits: of a weight.
        block: input channels that share one scale, 0 for all of them.
        room: bytes that the most sensitive layers get in addition, as a share of what the bits take.
    """

    format: str = "coreml"
    parts: tuple[str, ...] = PARTS
    kind: CoreMLKind
    ios: int
    bits: int
    block: int = 0
    room: float = 0.0


COREML_RECIPES: dict[str, CoreMLRecipe] = by_name((
    CoreMLRecipe(
        name="fp16", kind="half", ios=17, bits=16, promise=HALF,
        summary="16-bit, layers that could overflow or drift kept in 32",
    ),
    CoreMLRecipe(
        name="w8", kind="linear", ios=17, bits=8, promise=EIGHT_BIT, summary="8-bit weights, a scale per output channel"
    ),
    CoreMLRecipe(
        name="w4", kind="blocks", ios=18, bits=4, block=32, promise=FOUR_BIT, summary="4-bit weights in blocks of 32"
    ),
    CoreMLRecipe(
        name="palette8", kind="palette", ios=18, bits=8, promise=EIGHT_BIT,
        summary="tables of 256 values for 16 channels",
    ),
    CoreMLRecipe(
        name="palette6", kind="palette", ios=18, bits=6, room=0.05, promise=EIGHT_BIT,
        summary="tables of 64 values, sensitive layers 8 bits",
    ),
    CoreMLRecipe(
        name="palette4", kind="palette", ios=18, bits=4, room=0.1, promise=FOUR_BIT,
        summary="tables of 16 values, sensitive layers more bits",
    ),
    CoreMLRecipe(
        name="w8a8", kind="linear8_activations8", ios=17, bits=8, promise=EIGHT_BIT,
        summary="8-bit weights and activations, for chips that multiply them",
    ),
))  # fmt: skip


def parse_coreml_recipes(text: str, ios: int) -> dict[str, CoreMLRecipe]:
    """ "w8", or "vision=palette4,text=w8", to the recipe of each tower.

    Raises:
        RecipeError: an unknown recipe or tower, or one that needs a newer system than `ios`.
    """
    if ios not in IOS:
        raise RecipeError(f"there is no iOS target {ios}; choose from {', '.join(map(str, IOS))}")
    found = recipes_by_part(text, PARTS, COREML_RECIPES, "CoreML recipe")
    for recipe in found.values():
        if recipe.ios > ios:
            raise RecipeError(f"the recipe {recipe.name!r} needs iOS {recipe.ios} (say --ios {recipe.ios}), not {ios}")
    return found
