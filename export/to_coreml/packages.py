"""The CoreML part of a bundle: both towers as packages, a Swift package beside them, and their parity."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...quant.recipes.coreml import CoreMLRecipe
from ...runtime.bundles.bundle import BundleWriter
from ...runtime.bundles.manifest import Manifest, TowerFacts
from ...runtime.progress import Progress
from ..families.siglip import Reference
from .compress import make_package
from .mil_evaluator import Program
from .options import PackageOptions
from .write import convert, rewrite, save

FOLDER = "coreml"

PACKAGE_NAMES = {"vision": "MedgeVision.mlpackage", "text": "MedgeText.mlpackage"}


def write_packages(
    writer: BundleWriter, reference: Reference, recipes: Mapping[str, CoreMLRecipe], full: Mapping[str, Program],
    inputs: Mapping[str, list[Any]], options: PackageOptions, metadata: Mapping[str, str], progress: Progress,
) -> dict[str, TowerFacts]:  # fmt: skip
    """Make each tower's package in the half-made bundle."""
    found: dict[str, TowerFacts] = {}
    for number, (tower, recipe) in enumerate(recipes.items()):
        progress(f"CoreML {recipe.name}: {tower} tower", number, len(recipes))
        place = f"{FOLDER}/{PACKAGE_NAMES[tower]}"
        path = writer.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        module = rewrite(reference.tower(tower), tower, options, recipe.block or 1)
        facts = {**metadata, "tower": tower, "recipe": recipe.name}
        decisions = make_package(
            module, full[tower], tower, side_of(reference, tower), recipe, options, inputs[tower], path, facts
        )
        for file in sorted(path.rglob("*")):
            if file.is_file():
                writer.add(file.relative_to(writer.folder).as_posix(), f"package.{tower}")
        found[tower] = TowerFacts(recipe.name, place, decisions=decisions)
    return found


@contextmanager
def full_programs(reference: Reference, towers: list[str], options: PackageOptions) -> Iterator[dict[str, Program]]:
    """The fp32 programs of the towers, while the block runs."""
    with tempfile.TemporaryDirectory(prefix="medge-") as folder:
        found = {}
        for tower in towers:
            module = rewrite(reference.tower(tower), tower, options)
            path = Path(folder) / PACKAGE_NAMES[tower]
            found[tower] = Program(save(convert(module, tower, side_of(reference, tower), options), path))
        yield found


def options_of(manifest: Manifest) -> PackageOptions:
    """What a bundle's packages were made with, as far as the full-precision program depends on it."""
    made = manifest.packages["vision"].decisions
    return PackageOptions(ios=int(made["ios"]), image_input=bool(made["image_input"]), batches=tuple(made["batches"]))


def side_of(reference: Reference, tower: str) -> int:
    config = reference.model.config
    return int(config.vision_config.image_size if tower == "vision" else config.text_config.max_position_embeddings)
