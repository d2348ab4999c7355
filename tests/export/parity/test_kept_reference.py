"""Parity without the checkpoint, from what an earlier run has kept of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from command_line import medge

pytest.importorskip("torch", reason="torch is not installed: pip install 'medge[export]'")

from medge.runtime.bundles.figures import EncoderFigures
from medge.runtime.bundles.manifest import Manifest, sha256_file
from medge.runtime.bundles.parity_report import ParityReport


def films(images: Path, folder: Path, names: tuple[str, ...]) -> Path:
    folder.mkdir()
    for name in names:
        shutil.copy(images / f"{name}.dcm", folder)
    return folder


def state(bundle: Path) -> dict[str, str]:
    return {str(path.relative_to(bundle)): sha256_file(path) for path in sorted(bundle.rglob("*")) if path.is_file()}


def test_a_kept_reference_measures_what_the_checkpoint_measures(
    bundle: Path, checkpoint: Path, few_images: Path, tmp_path: Path
) -> None:
    some = films(few_images, tmp_path / "films", ("CT_small", "MR_small", "693_J2KI"))
    (some / "broken.png").write_bytes(b"no film")
    before = state(bundle)
    first, again = tmp_path / "first", tmp_path / "again"
    medge("parity", bundle, "--reference", checkpoint, "--images", some, "--out", first, code=None)
    told = json.loads(
        medge("parity", bundle, "--reference", first / "reference.safetensors", "--images", some, "--out", again, "--json",
              code=None).stdout
    )  # fmt: skip
    assert told["out"] == str(again)
    assert [Path(failed["image"]).name for failed in told["failed"]] == ["broken.png"]
    assert state(bundle) == before
    exact, kept = (ParityReport.read(place / "parity.json") for place in (first, again))
    assert isinstance(exact.figures, EncoderFigures)
    assert kept.figures == dataclasses.replace(exact.figures, speed=None)
    assert (kept.gates, kept.made, kept.reference) == (exact.gates, exact.made, exact.reference)
    assert exact.stages
    assert kept.stages == {}
    assert "parity" in (again / "parity.html").read_text()
    assert {path.name for path in again.iterdir()} == {"parity.json", "parity.html"}

    refused = medge("parity", bundle, "--reference", checkpoint, "--images", some, "--out", first, code=1).stderr
    assert "--force" in refused
    other = films(few_images, tmp_path / "other", ("CT_small", "examples_ybr_color"))
    asked = ("parity", bundle, "--reference", first / "reference.safetensors", "--out", tmp_path / "no")
    said = medge(*asked, "--images", other, code=1).stderr
    assert "was made on 3 images, films" in said
    assert "these images" in said
    (tmp_path / "labels.txt").write_text("a word that nobody embedded\nanother\n")
    assert "labels or texts" in medge(*asked, "--images", some, "--labels", tmp_path / "labels.txt", code=1).stderr
    assert not (tmp_path / "no").exists()


def test_another_checkpoints_reference_is_refused(
    bundle: Path, checkpoint: Path, few_images: Path, tmp_path: Path
) -> None:
    some = films(few_images, tmp_path / "films", ("CT_small", "MR_small"))
    medge("parity", bundle, "--reference", checkpoint, "--images", some, "--out", tmp_path / "out", code=None)
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    manifest = Manifest.read(copy)
    hashes = {**manifest.source.sha256, "config.json": "0" * 64}
    source = dataclasses.replace(manifest.source, sha256=hashes, name="another")
    (copy / "manifest.json").write_text(dataclasses.replace(manifest, source=source).to_json())
    asked = ("parity", copy, "--images", some, "--reference")
    assert (
        "was made from another: hashes differ" in medge(*asked, tmp_path / "out/reference.safetensors", code=1).stderr
    )
    (tmp_path / "notes.txt").write_text("x")
    assert "is neither a checkpoint folder" in medge(*asked, tmp_path / "notes.txt", code=1).stderr


def test_a_language_model_needs_its_checkpoint(tiny_reader: Path, tmp_path: Path) -> None:
    (tmp_path / "reference.safetensors").touch()
    said = medge("parity", tiny_reader, "--reference", tmp_path / "reference.safetensors", code=1).stderr
    assert "is measured against its checkpoint" in said
