"""CoreML as a format of encoder bundles: a package a tower, and a Swift package beside them."""

from __future__ import annotations

from ...quant.recipes.coreml import COREML_RECIPES, CoreMLRecipe, parse_coreml_recipes
from ...runtime.errors import RecipeError
from ..format import Format
from .options import PackageOptions
from .packages import FOLDER, make_packages
from .session import PackageEncoder
from .stages import PackageStages
from .swift_package import write_swift
from .write import MERGEABLE


def _parse(text: str | None, options: PackageOptions, merge: int | None) -> dict[str, CoreMLRecipe]:
    recipes = parse_coreml_recipes(text or "w8", options.ios)
    if options.target_size is not None and any(recipe.kind != "palette" for recipe in recipes.values()):
        raise RecipeError("--target-size chooses bits for palettes: say a palette recipe for both towers")
    if merge and recipes["vision"].kind not in MERGEABLE:
        raise RecipeError(f"in a CoreML package, merged patches go with fp16 or w8, not with {recipes['vision'].name}")
    return recipes


FORMAT = Format(
    "coreml", _parse, COREML_RECIPES, make_packages, PackageEncoder, PackageStages, write_swift, folder=FOLDER
)
