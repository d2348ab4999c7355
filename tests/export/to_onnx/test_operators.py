"""The runtime's list of operators is what the exporter writes: no more, so that nothing else can come in, and no less."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clip_checkpoints import write_clip

from medge.export.families import token_merging
from medge.export.families.gemma3 import open_gemma
from medge.export.families.table import open_encoder
from medge.export.families.token_merging import MergingTower
from medge.export.to_onnx import stages
from medge.export.to_onnx.image_tokens import SIGNATURE, ImageTokens, load_tower
from medge.export.to_onnx.maps import add_map_output, followed, map_graph
from medge.quant.onnx_graph.apply import quantize
from medge.quant.onnx_graph.graph import Graph
from medge.quant.recipes.onnx import ONNX_RECIPES
from medge.runtime.device.cpu import TARGETS
from medge.runtime.device.onnx_outline import OPERATORS, check_onnx


def graphs(shallow: Path, clip: Path, tiny_gemma: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """One of each kind: both families' towers, one that merges, with its queries in parts and its output for
    maps, and a language model's."""
    for folder in (shallow, clip):
        reference = open_encoder(folder)
        for tower in ("vision", "text"):
            yield stages.export_tower(reference.tower(tower), reference.signatures[tower])
        if folder == shallow:
            vision = reference.tower("vision")
            monkeypatch.setattr(token_merging, "SCORES", 20 * vision.config.num_attention_heads * 64)
            merging = MergingTower(vision, 2, follow=True)
            graph = stages.export_tower(merging, followed(reference.signatures["vision"]))
            add_map_output(graph, map_graph(merging))
            yield graph
    yield stages.export_tower(ImageTokens(*load_tower(open_gemma(tiny_gemma)), 0), SIGNATURE)


def inputs(graph: Graph) -> np.ndarray:
    [given] = graph.model.graph.input
    shape = [2, *(dim.dim_value for dim in given.type.tensor_type.shape.dim[1:])]
    rng = np.random.default_rng(0)
    return rng.integers(1, 300, shape) if given.name == "input_ids" else rng.standard_normal(shape).astype(np.float32)


def test_the_list_is_what_is_written(
    shallow: Path, tiny_gemma: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only thing that would notice an operator too many; of the towers, those that other tests export are exported once."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    kinds = {recipe.kind: recipe for recipe in ONNX_RECIPES.values()}
    clip = write_clip(tmp_path / "clip", legacy_end=False)
    for number, graph in enumerate(graphs(shallow, clip, tiny_gemma, monkeypatch)):
        # What 8 and 4 bits make of linear layers and tables is the same in every tower; casts stand where operators meet.
        for recipe in kinds.values() if number < 2 else (kinds["none"], kinds["half"]):
            small, _ = quantize(graph, recipe, TARGETS["avx2"], [inputs(graph)])
            [path] = small.save(tmp_path / "tower.onnx")
            check_onnx(path)
            for node in small.nodes:
                found[node.domain, node.op_type].update(attribute.name for attribute in node.attribute)
    assert found == OPERATORS
