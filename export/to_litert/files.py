"""Both towers of a bundle as LiteRT files."""

from __future__ import annotations

from collections.abc import Mapping

from ...quant.litert_graph.apply import quantize
from ...quant.recipes.litert import LiteRTRecipe
from ...quant.recipes.recipe import golden_bound
from ...runtime.bundles.facts import TowerFacts, file_role
from ...runtime.encoder.litert import LiteRTEncoder
from ..format import Making
from .metadata import Described, metadata
from .towers import full_graph


def make_files(making: Making, recipes: Mapping[str, LiteRTRecipe], folder: str) -> dict[str, TowerFacts]:
    """Make each tower's file in this folder of the half-made bundle."""
    found: dict[str, TowerFacts] = {}
    for number, (tower, recipe) in enumerate(recipes.items()):
        making.progress(f"LiteRT {recipe.name}: {tower} tower", number, len(recipes))
        signature = making.full.reference.signatures[tower]
        output = signature.outputs[-1]
        small, decisions = quantize(full_graph(making.full, tower), recipe, making.inputs[tower])
        small.set_outputs({output: small.outputs[output]})
        facts = {**making.metadata, "tower": tower, "recipe": recipe.name}
        small.set_metadata(metadata(facts, _described(making, tower), Described(output, "an embedding")))
        path = f"{folder}/{tower}_model{recipe.suffix}.tflite"
        making.writer.add(path, file_role(LiteRTEncoder.format, tower)).write_bytes(small.content())
        found[tower] = TowerFacts(
            recipe.name, path, "litert", golden_bound(recipe, merged=False), inputs=signature.inputs, output=output,
            decisions=decisions,
        )  # fmt: skip
    return found


def _described(making: Making, tower: str) -> Described:
    reference = making.full.reference
    (name,) = reference.signatures[tower].inputs
    if tower == "vision":
        side = reference.facts.image_size
        return Described(name, "red, green and blue, channels first", reference.normalisation, side)
    return Described(name, f"{reference.facts.tokenizer.length} token ids of tokenizer.json")
