"""ONNX as a format of encoder bundles: one file a tower, as transformers.js loads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...quant.onnx_graph.apply import quantize
from ...quant.recipes.onnx import ONNX_RECIPES, OnnxRecipe
from ...quant.recipes.recipe import golden_bound, part_gates
from ...runtime.bundles.bundle import Bundle, BundleWriter
from ...runtime.bundles.facts import TowerFacts
from ...runtime.encoder.encoder import Encoder
from ...runtime.encoder.labels import unit_length
from ...runtime.golden.encoder import write_golden
from ..families.full_precision import Remembered
from ..families.token_merging import CHOSEN, MergingTower, largest_merge
from ..format import Format, Making
from ..source.coverage import check_covered, to_look_at
from .maps import add_map_output, followed, map_graph
from .stages import OnnxStages, engine, full_graph
from .towers import export_tower, write_tower


def _make(making: Making, recipes: Mapping[str, OnnxRecipe]) -> dict[str, TowerFacts]:
    towers: dict[str, TowerFacts] = {}
    for number, (tower, recipe) in enumerate(recipes.items()):
        making.progress(f"exporting the {tower} tower", number, len(recipes))
        merged = _merging(making, recipe) if tower == "vision" else None
        signature = making.full.reference.signatures[tower]
        maps = making.maps and tower == "vision"
        if merged is None:
            graph = full_graph(making.full, tower)
        else:
            graph = export_tower(merged, followed(signature) if maps else signature)
        making.progress(f"{recipe.name}: {tower} tower", number, len(recipes))
        small, decisions = quantize(graph, recipe, making.target, making.inputs[tower])
        if merged is not None:
            decisions |= merged.encoder.facts()
        if maps and merged is not None:
            decisions |= add_map_output(small, map_graph(merged))
        elif maps:
            behind = making.full.kept("maps", lambda: map_graph(making.full.reference.tower("vision")))
            decisions |= add_map_output(small, behind)
        golden = golden_bound(recipe, merged=merged is not None)
        towers[tower] = write_tower(making.writer, tower, f"{tower}_model", recipe, small, decisions, signature, golden)
    return towers


def _merging(making: Making, recipe: OnnxRecipe) -> MergingTower | None:
    """The vision tower with similar tokens merged, where the user or the recipe wants that."""
    if not making.merge and not (making.merge is None and recipe.merge_within):
        return None
    making.full.reference.allow("merging")
    full, images = making.full, making.images
    tower = full.reference.tower("vision")
    if making.merge is not None:
        return MergingTower(tower, making.merge, follow=making.maps)
    # The images are kept, too, so that no others get their identity.
    of_these = (id(images), making.profile)
    inputs = full.kept(("choosing", of_these), lambda: (images, _choosing_inputs(making)))[1]

    @torch.inference_mode()
    def embed(merged: int, batches: Sequence[NDArray[np.float32]] = inputs) -> Iterator[NDArray[np.float32]]:
        merging = MergingTower(tower, merged)
        for batch in batches:
            yield unit_length(merging(torch.from_numpy(batch)).pooler_output.numpy())

    def embedded(
        merged: int,
    ) -> Remembered[NDArray[np.float32]]:  # a recipe with other gates tries some of the same counts
        return full.kept(("merged", merged, of_these), lambda: Remembered(embed(merged)))

    if given := making.given:
        facts, normalise = full.reference.facts, full.reference.normalisation
        seen = to_look_at(given)

        def embed_seen() -> NDArray[np.float32]:
            return np.concatenate(
                list(embed(0, seen.in_batches(making.profile, facts.image_size, len(seen), normalise)))
            )

        judged = full.kept(("judged kinds", id(given), making.profile), lambda: (given, embed_seen()))[1]
        check_covered(np.concatenate(list(embedded(0))), judged, images, seen, CHOSEN)
    gates = part_gates("vision", recipe)
    count = full.kept(("merge", gates, of_these), lambda: largest_merge(embedded, tower, gates))
    return MergingTower(tower, count, follow=making.maps) if count else None


def _choosing_inputs(making: Making) -> list[NDArray[np.float32]]:
    reference = making.full.reference
    return making.images.for_choosing(making.profile, reference.facts.image_size, reference.normalisation, what=CHOSEN)


def _open(bundle: Bundle) -> Encoder:
    return Encoder(bundle, device="cpu")


def _complete(writer: BundleWriter, encoder: Encoder) -> None:
    write_golden(encoder, writer.add("golden.safetensors", "golden"))


FORMAT = Format("onnx", ONNX_RECIPES, _make, _open, engine, OnnxStages, _complete)
