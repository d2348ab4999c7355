"""LiteRT as a format of encoder bundles: one .tflite file a tower, with the metadata that LiteRT's tools read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...quant.litert_graph.apply import quantize
from ...quant.recipes.litert import LITERT_RECIPES, LiteRTRecipe
from ...quant.recipes.recipe import golden_bound
from ...runtime.bundles.bundle import BundleWriter
from ...runtime.bundles.facts import TowerFacts
from ...runtime.encoder.litert import LiteRTEncoder
from ...runtime.golden.encoder import write_golden
from ..format import Format, Making
from .metadata import Described, metadata
from .stages import LiteRTStages, engine
from .towers import full_graph

FOLDER = "litert"


def _make(making: Making, recipes: Mapping[str, LiteRTRecipe]) -> dict[str, TowerFacts]:
    found: dict[str, TowerFacts] = {}
    for number, (tower, recipe) in enumerate(recipes.items()):
        making.progress(f"LiteRT {recipe.name}: {tower} tower", number, len(recipes))
        signature = making.full.reference.signatures[tower]
        output = signature.outputs[-1]
        small, decisions = quantize(full_graph(making.full, tower), recipe, making.inputs[tower])
        small.set_outputs({output: small.outputs[output]})
        facts = {**making.metadata, "tower": tower, "recipe": recipe.name}
        small.set_metadata(metadata(facts, _described(making, tower), Described(output, "an embedding")))
        path = f"{FOLDER}/{tower}_model{recipe.suffix}.tflite"
        making.writer.add(path, LiteRTEncoder.role(tower)).write_bytes(small.content())
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


def _complete(writer: BundleWriter, encoder: Any) -> None:
    write_golden(encoder, writer.add(f"{FOLDER}/golden.safetensors", encoder.role("golden")))


FORMAT = Format("litert", LITERT_RECIPES, _make, LiteRTEncoder, engine, LiteRTStages, _complete, folder=FOLDER)
