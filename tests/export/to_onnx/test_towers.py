"""The fp32 graphs: what they look like, and that they compute what PyTorch does."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tolerances import EXACT_REWRITE, FP32_EMBEDDING

from medge.export.families.full_precision import FullPrecision
from medge.export.families.pooling import pooling_attention
from medge.export.families.siglip import Reference
from medge.export.source.samples import read_samples
from medge.export.standin.medsiglip.architecture import SIDE
from medge.export.to_onnx.stages import full_graph
from medge.export.to_onnx.towers import describe_graph, stage_names
from medge.quant.onnx_graph.graph import Graph
from medge.runtime.device.cpu import pick_target
from medge.runtime.device.onnx_session import OrtSession
from medge.runtime.errors import RecipeError

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def graphs(full_precision: FullPrecision) -> dict[str, Graph]:
    return {tower: full_graph(full_precision, tower) for tower in ("vision", "text")}


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_the_graph_is_the_blessed_one(graphs: dict[str, Graph], tower: str) -> None:
    """After a wanted change: MEDGE_BLESS=1 pytest tests/export, and read the difference before committing it."""
    path = GOLDEN / f"{tower}_graph.txt"
    text = describe_graph(graphs[tower])
    if os.environ.get("MEDGE_BLESS"):
        path.write_text(text)
    assert text == path.read_text()


def test_the_pooling_patch_changes_nothing_and_is_taken_back(reference: Reference) -> None:
    tower = reference.model.vision_model
    original, side = tower.head.attention, tower.config.image_size
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tower(pixel_values=pixels).pooler_output
        with pooling_attention(tower):
            assert tower.head.attention is not original
            patched = tower(pixel_values=pixels).pooler_output
    assert tower.head.attention is original
    torch.testing.assert_close(patched, expected, rtol=0, atol=EXACT_REWRITE)


def test_graphs_carry_nothing_of_the_machine(graphs: dict[str, Graph]) -> None:
    for graph in graphs.values():
        body = graph.without_weights().SerializeToString()
        assert b"/site-packages/" not in body
        assert os.getcwd().encode() not in body


@pytest.mark.parametrize("batch", [1, 3])
def test_both_towers_equal_pytorch_stage_by_stage(graphs: dict[str, Graph], reference: Reference, batch: int) -> None:
    rng = np.random.default_rng(batch)
    inputs = {"vision": rng.uniform(-1, 1, (batch, 3, SIDE, SIDE)).astype(np.float32),
              "text": rng.integers(0, 32000, (batch, 64))}  # fmt: skip
    for tower, graph in graphs.items():
        expected = reference.images(inputs[tower]) if tower == "vision" else reference.texts(inputs[tower])
        names = stage_names(graph)
        assert len(names) == 1 + len([name for name in expected.stages if name.startswith("block")])
        session = OrtSession(graph.with_outputs(names), device="cpu")
        *stages, pooled = session.run([*names, "pooler_output"], {graph.model.graph.input[0].name: inputs[tower]})
        for name, value in zip(names, stages, strict=True):
            exact = expected.stages[name.removeprefix("stage/")]
            assert np.abs(value - exact).max() < FP32_EMBEDDING * max(1, np.abs(exact).max()), name
        embedding = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        assert np.abs(embedding - expected.embedding).max() < FP32_EMBEDDING


def test_targets_change_the_number_format(graphs: dict[str, Graph], few_images: Path) -> None:
    from medge.quant.onnx_graph.apply import quantize
    from medge.quant.recipes.onnx import ONNX_RECIPES
    from medge.runtime.device.cpu import TARGETS

    inputs = read_samples(few_images).inputs("eval-tf", SIDE, 2)
    for name, target in TARGETS.items():
        small, decisions = quantize(graphs["vision"], ONNX_RECIPES["int8"], target, inputs)
        kinds = {small.weights[n].data_type for n in small.weights if n.endswith(".quantized")}
        assert kinds == {onnx.TensorProto.INT8 if target.signed_weights else onnx.TensorProto.UINT8}
        assert decisions["weights"] == ("s8" if target.signed_weights else "u8"), name
    with pytest.raises(RecipeError, match="there is no target 'z80'"):
        pick_target("z80")
