"""What CoreML packages are asked for: recipes, how they are called and for which systems; importing it loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from ...quant.recipes.coreml import CoreMLRecipe, parse_coreml_recipes
from ...runtime.errors import RecipeError

MERGEABLE = ("half", "linear")  # kinds of recipes that need no layer in the Neural Engine's form


@dataclass(frozen=True)
class PackageOptions:
    """How a package is called and for which systems it is made.

    Attributes:
        ios: deployment target, 17 or 18.
        image_input: the vision tower takes a picture of its size, (H, W) RGB bytes, instead of normalised numbers.
        batches: sizes that are allowed; images come one at a time.
        target_size: bytes of a tower's weights; bits are then chosen by layer (palettes only).
        merge: similar patches to merge in each block of the vision tower.
    """

    ios: int = 18
    image_input: bool = True
    batches: tuple[int, ...] = (1,)
    target_size: int | None = None
    merge: int = 0


def parse_packages(text: str | None, options: PackageOptions, merge: int | None) -> dict[str, CoreMLRecipe]:
    """The user's recipe (w8 where None) to {tower: recipe}.

    Raises:
        RecipeError: one that does not exist, or does not go with the options or with `merge`.
    """
    recipes = parse_coreml_recipes(text or "w8", options.ios)
    if options.target_size is not None and any(recipe.kind != "palette" for recipe in recipes.values()):
        raise RecipeError("--target-size chooses bits for palettes: say a palette recipe for both towers")
    if merge and recipes["vision"].kind not in MERGEABLE:
        raise RecipeError(f"in a CoreML package, merged patches go with fp16 or w8, not with {recipes['vision'].name}")
    return recipes
