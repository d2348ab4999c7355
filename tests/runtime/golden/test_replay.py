"""A device that computes something else is noticed."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import medge
from safetensors.numpy import load_file, save_file

from medge.runtime.bundles.bundle import _entry
from medge.runtime.bundles.facts import GoldenBound
from medge.runtime.bundles.manifest import MANIFEST, Manifest
from medge.runtime.golden.judge import judge_cosines


def other_weights(bundle: Path, tmp_path: Path) -> Path:
    """A copy whose hashes are right, and whose golden results are those of other weights."""
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    golden = load_file(copy / "golden.safetensors")
    golden["image_embeddings"] = golden["image_embeddings"][::-1].copy()
    save_file(golden, copy / "golden.safetensors")
    manifest = Manifest.read(copy)
    files = tuple(_entry(copy, entry.path, entry.role) for entry in manifest.files)
    (copy / MANIFEST).write_text(dataclasses.replace(manifest, files=files).to_json())
    return copy


def test_verify_notices_another_computation(bundle: Path, tmp_path: Path) -> None:
    done = medge("verify", other_weights(bundle, tmp_path), "--json", code=1)
    assert not json.loads(done.stdout)["holds"]


@pytest.mark.parametrize(
    ("statistic", "bound", "value", "holds"),
    [("min", 0.6, 0.5, False), ("min", 0.5, 0.5, True), ("mean", 0.75, 0.75, True), ("mean", 0.8, 0.75, False)],
)
def test_a_bound_is_held_against_the_least_or_the_mean(statistic: str, bound: float, value: float, holds: bool) -> None:
    judged = judge_cosines("images", np.array([0.5, 1.0, 0.75]), GoldenBound(statistic, bound))  # type: ignore[arg-type]
    assert judged[1:] == (value, bound, holds)


def test_the_bound_is_the_manifests(bundle: Path, tmp_path: Path) -> None:
    """Golden results of other weights, and a bound that lets them pass."""
    copy = other_weights(bundle, tmp_path)
    manifest = Manifest.read(copy)
    onnx = manifest.artefacts["onnx"]
    loose = dataclasses.replace(onnx.towers["vision"], golden=GoldenBound("mean", 0.1))
    changed = dataclasses.replace(onnx, towers={**onnx.towers, "vision": loose})
    (copy / MANIFEST).write_text(manifest.with_artefact("onnx", changed).to_json())
    rows = {row["check"]: row for row in json.loads(medge("verify", copy, "--json").stdout)["results"]}
    told = rows["image embeddings: mean cosine"]
    assert (told["bound"], told["holds"]) == (0.1, True)
    assert told["measured"] < 0.99
