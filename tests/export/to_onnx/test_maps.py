"""The output for maps in the graph: what PyTorch gives, and nothing before it changes, whatever the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_checkpoints import write_clip
from siglip_checkpoints import first_blocks, tiny_tower
from tolerances import FP32_ROUNDING

from medge.export.families.contributions import PatchContributions
from medge.export.families.siglip import Reference
from medge.export.families.token_merging import MergingTower
from medge.export.jobs.encoder import export_medsiglip
from medge.export.jobs.encoder_job import ExportJob, read_job
from medge.export.to_onnx.maps import OUTPUT, SOURCES, TOKENS, add_map_output, followed, map_graph
from medge.export.to_onnx.towers import export_tower
from medge.quant.onnx_graph.apply import quantize
from medge.quant.onnx_graph.graph import Graph
from medge.quant.recipes.onnx import ONNX_RECIPES
from medge.runtime.device.cpu import TARGETS
from medge.runtime.device.onnx_outline import check_onnx
from medge.runtime.device.onnx_session import OrtSession
from medge.runtime.errors import RecipeError

SIGNATURE = Reference.signatures["vision"]


@pytest.fixture(scope="module")
def towers() -> dict[bool, Any]:
    """By whether patches are merged: the module whose tokens the output is made of."""
    tower = first_blocks(tiny_tower(), 1)  # what more blocks do is not said here
    return {False: tower, True: MergingTower(tower, 3, follow=True)}


@pytest.fixture(scope="module")
def graphs(towers: dict[bool, Any]) -> dict[bool, Graph]:
    return {
        merged: export_tower(tower, followed(SIGNATURE) if merged else SIGNATURE) for merged, tower in towers.items()
    }


@pytest.fixture(scope="module")
def behind(towers: dict[bool, Any]) -> dict[bool, Graph]:
    return {merged: map_graph(tower) for merged, tower in towers.items()}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (2, 3, 56, 56)).astype(np.float32)


@pytest.mark.parametrize("name", ONNX_RECIPES)
def test_every_recipe_keeps_its_embeddings_and_gives_pytorchs_rows(
    name: str, towers: dict[bool, Any], behind: dict[bool, Graph], graphs: dict[bool, Graph], pixels: np.ndarray,
    tmp_path: Path,
) -> None:  # fmt: skip
    """The rows are those of the tokens that this recipe's tower makes."""
    recipe = ONNX_RECIPES[name]
    merged = recipe.merge_within
    plain, mapped = (quantize(graphs[merged], recipe, TARGETS["avx2"], [pixels])[0] for _ in range(2))
    assert add_map_output(mapped, behind[merged]) == {"map_output": OUTPUT}
    [path] = mapped.save(tmp_path / "tower.onnx")
    outline = check_onnx(path)  # no operator that the runtime refuses
    assert set(outline.outputs) == {*SIGNATURE.outputs, OUTPUT}
    given, sources = {"pixel_values": pixels}, [SOURCES] if merged else []
    [expected] = OrtSession(plain.with_outputs([]), device="cpu").run(["pooler_output"], given)
    [alone] = OrtSession(path, device="cpu").run(["pooler_output"], given)
    session = OrtSession(mapped.with_outputs(sources), device="cpu")
    embeddings, rows, *tokens = session.run(["pooler_output", OUTPUT, TOKENS, *sources], given)
    np.testing.assert_array_equal(alone, expected)
    np.testing.assert_array_equal(embeddings, expected)
    with torch.no_grad():
        wanted = PatchContributions(towers[merged])(*map(torch.from_numpy, tokens)).numpy()
    assert rows.shape == (2, 17, 32)
    np.testing.assert_allclose(rows, wanted, rtol=0, atol=FP32_ROUNDING)


def test_what_has_no_such_sum_is_refused(shallow: Path, few_images: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip", legacy_end=False)
    with pytest.raises(RecipeError, match="maps: clip reads its class token"):
        export_medsiglip(ExportJob(clip, tmp_path / "out", "fp32", maps=True, calibration=few_images))
    with pytest.raises(RecipeError, match="--maps is an output of the ONNX vision tower"):
        read_job(ExportJob(shallow, tmp_path / "out", formats=("coreml",), maps=True))
    assert not (tmp_path / "out").exists()
