"""`medge evaluate` of an encoder's checkpoint: in PyTorch, on what a bundle is evaluated on, and against one."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_checkpoints import write_clip
from command_line import medge
from PIL import Image
from tolerances import FP32_EMBEDDING

from medge.export.families.siglip import Reference
from medge.export.families.table import open_encoder
from medge.export.jobs.checkpoint_encoder import CheckpointEncoder
from medge.export.jobs.checkpoint_folder import candidates
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.encoder.embedder import softmax
from medge.runtime.encoder.labels import LabelBank
from medge.runtime.errors import RecipeError
from medge.runtime.pictures.images import read_image
from medge.runtime.pictures.preprocess import preprocess

Row = dict[str, str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine pictures in folders of two labels, and one that can't be read."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for label, count in (("hand", 5), ("head", 4)):
        (folder / label).mkdir()
        for number in range(count):
            pixels = rng.integers(0, 255, (40 + 8 * number, 64, 3), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    (folder / "hand" / "broken.png").write_bytes(b"no picture")
    return folder


def rows_of(place: Path) -> dict[str, Row]:
    return {row["id"]: row for row in csv.DictReader((place / "items.csv").open(newline=""))}


def test_a_checkpoint_is_evaluated_and_gone_on_with(
    checkpoint: Path, reference: Reference, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    asked = ("evaluate", checkpoint, "--task", "folder", "--data", data, "--out", out, "--items", "csv")
    medge(*asked, "--limit", "4", "--json", code=None)
    few = len(rows_of(out))
    done = medge(*asked, code=3)
    assert f"{few} done before" in done.stderr
    assert "1 of 10 images could not be read" in done.stderr
    facts = json.loads((out / "metrics.json").read_text())
    assert facts["bundle"] == checkpoint.name
    assert facts["model"]["parity"] == "original"
    assert facts["model"]["profile"] == "eval-tf"
    assert facts["model"]["bytes"] == (checkpoint / "model.safetensors").stat().st_size
    assert set(facts["model"]["recipes"].values()) == {"fp32 in PyTorch"}
    assert "parity with its original" not in (out / "metrics.html").read_text()
    rows = rows_of(out)
    assert len(rows) == facts["items"]["evaluated"] == 9
    # The scores again, by the class that parity measures against.
    prompts = facts["task"]["prompts"]["there"]
    bank = LabelBank.build(prompts, reference.embed_texts)
    pixels = np.stack([preprocess(read_image(data / name), "eval-tf", reference.facts.image_size) for name in rows])
    scores = softmax(reference.image_embeddings(pixels) @ bank.embeddings.T * reference.facts.logit_scale)
    for row, wanted in zip(rows.values(), scores, strict=True):
        assert [float(row[f"score {label}"]) for label in prompts] == pytest.approx(wanted, abs=1e-4)
    assert len({row["score hand"] for row in rows.values()}) == 9  # not all the same
    other = medge(*asked, "--profile", "hf-bicubic", code=1).stderr
    assert "holds other results" in other
    changed = tmp_path / checkpoint.name
    shutil.copytree(checkpoint, changed)
    (changed / "config.json").write_text((changed / "config.json").read_text() + "\n")
    assert "holds other results" in medge(asked[0], changed, *asked[2:], code=1).stderr


def test_a_bundle_against_its_checkpoint(bundle: Path, checkpoint: Path, data: Path, tmp_path: Path) -> None:
    asked = ("--task", "folder", "--data", data, "--items", "csv", "--out")
    medge("evaluate", bundle, "--against", checkpoint, *asked, tmp_path / "small" / "run", code=3)
    facts = json.loads((tmp_path / "small" / "run" / "comparison.json").read_text())
    original, small = facts["results"]
    assert [original["parity"], small["parity"]] == ["original", "passed"]
    assert original["out"] == str(tmp_path / "small" / f"folder-{checkpoint.name}-zero-shot")
    assert original["bytes"] > small["bytes"]
    assert small["against_first"]["items"] == {"in_both": 9, "only_in_first": 0, "only_in_this": 0}
    scores = [[float(row["score hand"]) for row in rows_of(Path(run["out"])).values()] for run in (original, small)]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)  # int8, of pictures that show nothing
    assert scores[0] != scores[1]
    medge("evaluate", checkpoint, "--against", bundle, *asked, tmp_path / "large", code=3)
    facts = json.loads((tmp_path / "large" / "comparison.json").read_text())
    assert [run["parity"] for run in facts["results"]] == ["passed", "original"]


def test_a_probe_on_a_checkpoint(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'medge[probe]'")
    medge(
        "evaluate", checkpoint, "--task", "folder", "--data", data, "--method", "probe", "--out", tmp_path / "run", code=3
    )  # fmt: skip
    facts = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert facts["model"]["parity"] == "original"
    assert facts["shares"]["1.0"]["trained_on"] + facts["items"]["evaluated"] == 9


def test_images_are_prepared_as_for_the_bundle_beside_it(bundle: Path, shallow: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    manifest = Manifest.read(other)
    assert manifest.preprocessing is not None
    manifest = replace(manifest, preprocessing=replace(manifest.preprocessing, profile="hf-bicubic"))
    (other / "manifest.json").write_text(manifest.to_json())

    def profile(*folders: Path, wanted: str | None = None) -> str:
        *_, found = candidates(folders, threads=None, device="cpu", allow_failed_parity=False, profile=wanted)
        return found.open().encoder.profile

    assert profile(shallow) == "eval-tf"
    assert profile(other, shallow) == "hf-bicubic"
    assert profile(other, shallow, wanted="serving-pad") == "serving-pad"
    clip = write_clip(tmp_path / "clip", legacy_end=True)
    assert profile(other, clip) == "clip-crop"  # its family was not made for the bundle's
    with pytest.raises(RecipeError, match="clip was not made for it"):
        profile(clip, wanted="eval-tf")


@pytest.mark.parametrize("family", ["siglip", "clip"])
def test_embeddings_are_the_references(family: str, shallow: Path, tmp_path: Path) -> None:
    folder = shallow if family == "siglip" else write_clip(tmp_path / "clip", legacy_end=False)
    exact = open_encoder(folder)
    encoder = CheckpointEncoder(open_encoder(folder), exact.profiles[0], device="cpu")
    side = exact.facts.image_size
    pixels = np.random.default_rng(0).standard_normal((18, 3, side, side)).astype(np.float32)
    found = encoder.embed_pixels(pixels)
    assert np.abs(found - exact.image_embeddings(pixels)).max() < FP32_EMBEDDING
    assert np.linalg.norm(found, axis=-1) == pytest.approx(np.ones(18), abs=1e-5)
    texts = ["red disc on black", "a chest x-ray", "green disc"]
    assert np.abs(encoder.embed_texts(texts) - exact.embed_texts(texts)).max() < FP32_EMBEDDING
    assert encoder.embed_texts([]).shape == (0, exact.facts.embedding_size)
    [cut] = encoder.cuts([*texts, "word " * 200])
    assert cut.text == "word " * 200


def test_what_can_not_be_is_refused(shallow: Path, data: Path, bundle: Path, tmp_path: Path) -> None:
    asked = ("evaluate", shallow, "--out", tmp_path / "run", "--data", data)
    assert "asks questions: give a language model, or" in medge(*asked, "--task", "medqa", code=1).stderr
    told = medge("evaluate", bundle, *asked[2:], "--task", "folder", "--profile", "eval-tf", code=2).stderr
    assert "--profile is for a checkpoint" in told
    if not torch.cuda.is_available():
        assert "PyTorch has only cpu here" in medge(*asked, "--task", "folder", "--device", "cuda", code=1).stderr
    strange = tmp_path / "strange"
    shutil.copytree(shallow, strange)
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps(config | {"model_type": "align"}))
    # Told before the bundle is evaluated, which may take hours.
    told = medge("evaluate", bundle, "--against", strange, *asked[2:], "--task", "folder", code=1).stderr
    assert "the known types of encoders are siglip, clip" in told
    assert not (tmp_path / "run").exists()
