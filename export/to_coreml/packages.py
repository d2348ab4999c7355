"""Both towers of a bundle as CoreML packages, and their full-precision programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ...quant.recipes.coreml import IOS, CoreMLRecipe
from ...quant.recipes.recipe import golden_bound
from ...runtime.bundles.facts import MERGED, TowerFacts
from ..families.full_precision import FullPrecision
from ..format import Array, Making
from .compress import make_package
from .mil.evaluator import Program
from .options import PackageOptions
from .precision import fp32_operations
from .weights import Compressing
from .write import OUTPUT, convert, rewrite, save, trace, with_weights, without_weights

FOLDER = "coreml"
PACKAGE_NAMES = {"vision": "MedgeVision.mlpackage", "text": "MedgeText.mlpackage"}


def make_packages(making: Making, recipes: Mapping[str, CoreMLRecipe]) -> dict[str, TowerFacts]:
    """Make each tower's package in the half-made bundle."""
    found: dict[str, TowerFacts] = {}
    full, writer = making.full, making.writer
    merging: PackageOptions = replace(making.options, merge=making.merge or 0)
    for number, (tower, recipe) in enumerate(recipes.items()):
        making.progress(f"CoreML {recipe.name}: {tower} tower", number, len(recipes))
        options = merging if tower == "vision" else replace(merging, merge=0)
        place = f"{FOLDER}/{PACKAGE_NAMES[tower]}"
        path = writer.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        module = rewrite(full.reference.tower(tower), tower, options, recipe.block or 1)
        facts = {**making.metadata, "tower": tower, "recipe": recipe.name}
        program = full_program(full, tower, options)
        kept = _kept_in_fp32(full, tower, options, making.inputs[tower])
        work = Compressing(module, tower, recipe, options, making.inputs[tower], path)
        decisions = make_package(work, kept, facts, partial(convert_tower, full, tower))
        for file in sorted(path.rglob("*")):
            if file.is_file():
                writer.add(file.relative_to(writer.folder).as_posix(), f"package.{tower}")
        bound = golden_bound(recipe, merged=bool(decisions.get(MERGED)))
        names = tuple(item.name for item in program.package.inputs)
        found[tower] = TowerFacts(recipe.name, place, "coreml", bound, inputs=names, output=OUTPUT, decisions=decisions)
    return found


def full_program(full: FullPrecision, tower: str, options: PackageOptions) -> Program:
    """The fp32 program of a tower, converted once for each form that it is called in."""
    options = replace(options, target_size=None)  # of the weights: nothing to full precision

    def make() -> Program:
        path = full.scratch / f"{len(list(full.scratch.iterdir()))}-{PACKAGE_NAMES[tower]}"
        return Program(write_full(full, tower, options, path))

    return full.kept(("coreml", tower, options), make)


def write_full(full: FullPrecision, tower: str, options: PackageOptions, path: Path) -> Path:
    """Convert a tower in fp32."""
    module = rewrite(full.reference.tower(tower), tower, options)
    return save(convert_tower(full, tower, module, options), path)


def convert_tower(
    full: FullPrecision, tower: str, module: nn.Module, options: PackageOptions, block: int = 1, half: Any = None
) -> Any:
    """A rewritten tower to an unsaved CoreML model; towers of one form are traced once, whatever their weights.

    Args:
        block: as the tower was rewritten with.
        half: as in `convert`.
    """
    side, form = side_of(full, tower), replace(options, target_size=None, ios=max(IOS))  # what tracing depends on
    graph = full.kept(("traced", tower, form, block), lambda: trace(module, tower, side, options))
    try:
        return convert(with_weights(graph, module), tower, side, options, half)
    finally:
        without_weights(graph)


def _kept_in_fp32(
    full: FullPrecision, tower: str, options: PackageOptions, inputs: Sequence[Array]
) -> Mapping[str, str]:
    """What fp16 can't hold of the tower that is converted; asked once for the same inputs, whatever the recipe."""
    program = full_program(full, tower, options)
    # The inputs are kept, too, so that no others get their identity.
    key = ("fp16", tower, replace(options, target_size=None), id(inputs))
    return full.kept(key, lambda: (inputs, fp32_operations(program, inputs)))[1]


def options_of(towers: Mapping[str, TowerFacts]) -> PackageOptions:
    """What packages were made with, as far as the full-precision program depends on it."""
    made = towers["vision"].decisions
    return PackageOptions(ios=int(made["ios"]), image_input=bool(made["image_input"]), batches=tuple(made["batches"]))


def side_of(full: FullPrecision, tower: str) -> int:
    """Pixels of a side, or tokens of a text."""
    config = full.reference.model.config
    return int(config.vision_config.image_size if tower == "vision" else config.text_config.max_position_embeddings)
