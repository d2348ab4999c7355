"""Merging similar tokens: what must stay the same, what the export makes of it, how far it may go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from siglip_checkpoints import first_blocks
from tolerances import FP32_MERGED_PACKAGE, FP32_MERGED_TOWER, FP32_SUMS, FP32_TOWER

from medge.export.families import token_merging
from medge.export.families.full_precision import FullPrecision, Remembered
from medge.export.families.siglip import Reference
from medge.export.families.token_merging import MergingTower, largest_merge, merge, patches, tokens_after
from medge.export.jobs.encoder import export_medsiglip
from medge.export.jobs.encoder_job import ExportJob
from medge.export.source.samples import builtin_samples
from medge.export.to_coreml.mil.evaluator import Program
from medge.export.to_coreml.options import PackageOptions
from medge.export.to_coreml.write import OUTPUT, convert, model_inputs, rewrite, save, trace
from medge.export.to_onnx.towers import export_tower
from medge.quant.recipes.onnx import ONNX_RECIPES
from medge.quant.recipes.recipe import part_gates
from medge.runtime.bundles.gates import Gate
from medge.runtime.device.onnx_session import OrtSession
from medge.runtime.encoder.labels import unit_length
from medge.runtime.errors import RecipeError


@pytest.fixture(scope="module")
def pixels(reference: Reference) -> np.ndarray:
    side = reference.model.config.vision_config.image_size
    return next(iter(builtin_samples().inputs("eval-tf", side, 6)))[:6]


@pytest.fixture(scope="module")
def two_blocks(reference: Reference) -> Any:
    """The vision tower's first two blocks: what the first merges, the second weighs; more would show nothing new."""
    return first_blocks(reference.model.vision_model, 2)


def left(full: FullPrecision, merged: int) -> int:
    """Tokens that leave the vision tower when each block merges so many."""
    tower = full.reference.model.vision_model
    return tokens_after(patches(tower), len(tower.encoder.layers), merged)[-1]


@torch.inference_mode()
def test_nothing_merged_is_the_tower_itself(reference: Reference, pixels: np.ndarray) -> None:
    tower, given = reference.model.vision_model, torch.from_numpy(pixels)
    ours, theirs = MergingTower(tower, 0)(given), tower(pixel_values=given)
    torch.testing.assert_close(ours.pooler_output, theirs.pooler_output, **FP32_TOWER)
    torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state, **FP32_TOWER)


def test_merging_keeps_sums_and_counts() -> None:
    generator = torch.Generator().manual_seed(0)
    x, metric = (torch.randn(2, 11, 5, generator=generator) for _ in range(2))
    size = torch.randint(1, 4, (2, 11, 1), generator=generator).float()
    merged, sizes = merge(x, size, metric, 4)
    assert merged.shape == (2, 7, 5)
    torch.testing.assert_close((merged * sizes).sum(1), (x * size).sum(1))
    torch.testing.assert_close(sizes.sum(1), size.sum(1))


def test_equal_tokens_merge_without_loss() -> None:
    """Each token of the first half has a twin in the second: they find each other, and nothing is lost."""
    generator = torch.Generator().manual_seed(1)
    kinds = torch.randn(1, 6, 8, generator=generator)
    x = torch.stack([kinds, kinds[:, torch.randperm(6, generator=generator)]], 2).flatten(1, 2)
    merged, sizes = merge(x, torch.ones(1, 12, 1), x, 6)
    assert (sizes == 2).all()
    found = merged[0][torch.cdist(kinds[0], merged[0]).argmin(1)]
    torch.testing.assert_close(found, kinds[0])


def test_how_many_tokens_are_left() -> None:
    assert tokens_after(64, 6, 4) == [60, 56, 52, 48, 44, 40]
    assert tokens_after(1024, 27, 37)[-2:] == [62, 32]
    assert tokens_after(8, 5, 3) == [5, 3, 2, 2, 2]  # one of each half stays


@pytest.mark.parametrize("merged", [1, 5])
@torch.inference_mode()
def test_the_export_computes_the_same(two_blocks: Any, pixels: np.ndarray, merged: int) -> None:
    tower = MergingTower(two_blocks, merged)
    session = OrtSession(export_tower(tower, Reference.signatures["vision"]).model.SerializeToString(), device="cpu")
    expected = tower(torch.from_numpy(pixels))
    hidden, pooled = session.run(["last_hidden_state", "pooler_output"], {"pixel_values": pixels})
    assert hidden.shape == (len(pixels), tower.tokens, pooled.shape[1])
    np.testing.assert_allclose(pooled, expected.pooler_output.numpy(), **FP32_MERGED_TOWER)


@torch.inference_mode()
def test_queries_may_be_taken_in_parts(
    reference: Reference, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower, given = reference.model.vision_model, torch.from_numpy(pixels)
    whole = MergingTower(tower, 2)(given).pooler_output
    monkeypatch.setattr(token_merging, "SCORES", 20 * tower.config.num_attention_heads * patches(tower))
    parted = MergingTower(tower, 2)
    assert parted.encoder.layers[0].queries == 20
    torch.testing.assert_close(parted(given).pooler_output, whole, rtol=FP32_SUMS, atol=FP32_SUMS)


def test_looser_gates_allow_more_and_what_is_missed_is_seen_early(reference: Reference) -> None:
    tower = reference.model.vision_model
    pixels = torch.from_numpy(np.concatenate(builtin_samples().inputs("eval-tf", tower.config.image_size, 22)))
    taken: dict[int, int] = {}

    @torch.inference_mode()
    def embed(merged: int) -> Iterator[np.ndarray]:
        taken[merged] = 0
        for batch in pixels.split(2):
            taken[merged] += len(batch)
            yield unit_length(MergingTower(tower, merged)(batch).pooler_output.numpy())

    known = {merged: Remembered(embed(merged)) for merged in range(patches(tower) // 2)}
    gates = part_gates("vision", ONNX_RECIPES["int4"])
    # Of many merged tokens the first images say that they miss these.
    hopeless = [replace(gate, bound=1 - 1e-6) for gate in gates]
    assert largest_merge(known.__getitem__, tower, hopeless) == 0
    assert taken[max(taken)] < len(pixels)
    strict, loose = (
        largest_merge(known.__getitem__, tower, part_gates("vision", ONNX_RECIPES[name])) for name in ("int8", "int4")
    )
    assert strict <= loose
    assert loose > 0
    assert taken[0] == taken[loose] == len(pixels)
    computed = dict(taken)
    assert largest_merge(known.__getitem__, tower, gates) == loose
    assert taken == computed  # what one recipe saw is there for the next


@pytest.mark.parametrize("neighbours", [0, 16])
def test_what_is_chosen_early_is_what_all_images_say(neighbours: int) -> None:
    """Rows that move away from where they were, the more the more are merged, each at its own pace."""
    rng = np.random.default_rng(0)
    tower: Any = SimpleNamespace(
        config=SimpleNamespace(image_size=16, patch_size=1), encoder=SimpleNamespace(layers=[None] * 8)
    )
    gates = [Gate("vision.centred_cosine.mean", ">=", 0.99), Gate("vision.centred_cosine.min", ">=", 0.9),
             Gate("vision.centred_cosine.p01", ">=", 0.95)]  # fmt: skip
    chosen = set()
    for pace in rng.uniform(0.001, 0.02, 20):
        exact, away = (unit_length(rng.normal(size=(60, 8)).astype(np.float32)) for _ in range(2))
        paces = (pace * rng.exponential(size=(60, 1))).astype(np.float32)

        def embed(merged: int, size: int = 60, exact: Any = exact, away: Any = away, paces: Any = paces) -> list[Any]:
            return np.split(unit_length(exact + merged * paces * away), range(size, 60, size))

        counts = [largest_merge(partial(embed, size=size), tower, gates, neighbours=neighbours) for size in (60, 7)]
        assert counts[0] == counts[1]
        chosen.add(counts[0])
    assert len(chosen) > 3


def test_a_merged_bundle(
    checkpoint: Path, full_precision: FullPrecision, few_images: Path, labels_file: Path, tmp_path: Path
) -> None:
    job = ExportJob(checkpoint, tmp_path / "b", "fp16", merge=2, calibration=few_images, labels=labels_file)
    bundle, reports = export_medsiglip(job, full=full_precision)
    report = reports["onnx"]
    decisions = bundle.manifest.towers["vision"].decisions
    assert (decisions["merged_tokens_a_block"], decisions["tokens_left"]) == (2, left(full_precision, 2))
    assert not bundle.manifest.towers["vision"].batch_invariant
    assert (
        report.figures.vision.centred_cosine.mean > 0.999
    )  # fp16 alone loses next to nothing, two tokens a block a little
    # Blocks have other tokens than the original's: only both ends are compared.
    assert [row.stage for row in report.stages["vision"]] == ["patch embedding", "pooled"]
    assert len(report.stages["text"]) > 2


def test_too_many(short: Path, short_full: FullPrecision, few_images: Path, tmp_path: Path) -> None:
    tokens = patches(short_full.reference.model.vision_model)
    most = tokens // 2
    said = f"{most} tokens a block can't be merged: this tower has {tokens}, at most {most - 1}"
    with pytest.raises(RecipeError, match=said):
        export_medsiglip(ExportJob(short, tmp_path / "b", "fp32", merge=most, calibration=few_images), full=short_full)


@pytest.mark.parametrize("image_input", [True, False])
def test_a_coreml_package_merges_as_pytorch_does(
    two_blocks: Any, pixels: np.ndarray, image_input: bool, tmp_path: Path
) -> None:
    options = PackageOptions(merge=3, image_input=image_input)
    module = rewrite(two_blocks, "vision", options)
    side = two_blocks.config.image_size
    graph = trace(module, "vision", side, options)
    program = Program(save(convert(graph, "vision", side, options), tmp_path / "m.mlpackage"))
    given = (np.rint((pixels.clip(-1, 1) + 1) * 127.5) / 127.5 - 1).astype(np.float32)  # what comes from bytes
    with torch.inference_mode():
        expected = MergingTower(two_blocks, 3)(torch.from_numpy(given)).pooler_output.numpy()
    found = np.concatenate([program.run([OUTPUT], item)[0] for item in model_inputs(program, [given])])
    np.testing.assert_allclose(found, expected, **FP32_MERGED_PACKAGE)


def test_a_merged_coreml_bundle(
    short: Path, short_full: FullPrecision, few_images: Path, labels_file: Path, tmp_path: Path
) -> None:
    job = ExportJob(short, tmp_path / "b", "w8", merge=1, formats=("coreml",), calibration=few_images,
                    labels=labels_file, with_text=False)  # fmt: skip
    artefact = export_medsiglip(job, full=short_full)[0].manifest.artefacts["coreml"]
    decisions = artefact.towers["vision"].decisions
    assert (decisions["merged_tokens_a_block"], decisions["tokens_left"]) == (1, left(short_full, 1))
    parity = artefact.parity
    assert parity is not None
    # Whether the stand-in can spare any is its own matter: what counts is that it is measured and judged.
    judged = {gate.figure: gate.passed for gate in parity.gates}
    assert "vision.centred_cosine.mean" in judged
    assert parity.status == ("failed" if False in judged.values() else "passed")
    with pytest.raises(RecipeError, match="merged patches go with fp16 or w8, not with palette4"):
        export_medsiglip(ExportJob(short, tmp_path / "c", "palette4", merge=1, formats=("coreml",)))
