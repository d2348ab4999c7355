"""`medge calibrate-scores`, and what `medge classify` says afterwards."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import medge as run
from PIL import Image

import medge
from medge.runtime.decisions.calibration import FILE, UNLIKE
from medge.runtime.errors import BundleError

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'medge[probe]'")

NAMES = ("abdomen CT", "chest x-ray", "head MRI")  # the bundle's own labels
EACH = 40


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a label of made-up pictures: stripes of three directions, whose embeddings differ."""
    folder = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    for name, wave in zip(NAMES, (rows, columns, rows + columns), strict=True):
        (folder / name).mkdir()
        for number in range(EACH):
            picture = 127 + 90 * np.sin(wave * 0.4 + rng.uniform(0, 6)) + rng.normal(0, 8, (64, 64))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def calibrated(bundle: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, and what the command said as `said.json`."""
    place = tmp_path_factory.mktemp("calibrated")
    shutil.copytree(bundle, place / "bundle")
    done = run("calibrate-scores", place / "bundle", "--data", labelled, "--json")
    (place / "said.json").write_text(done.stdout)
    return place


def test_the_command_writes_what_it_says(calibrated: Path) -> None:
    said = json.loads((calibrated / "said.json").read_text())
    facts = said["scores"]
    assert facts["labels"] == list(NAMES)
    assert facts["images"] == 3 * EACH
    [kind] = facts["kinds"]
    assert [point["positives"] + point["negatives"] for point in kind["points"]] == [48] * 3  # two fifths
    assert facts["flagged"]["count"] == 24  # the rest
    encoder = medge.load_encoder(calibrated / "bundle")
    assert encoder.calibration is not None
    assert encoder.calibration.facts.labels == NAMES
    run("verify", calibrated / "bundle")
    assert "calibrated on 120 images" in " ".join(run("inspect", calibrated / "bundle").stdout.split())


def test_classify_says_present_absent_and_unlike(calibrated: Path, labelled: Path, tmp_path: Path) -> None:
    disc = tmp_path / "disc.png"
    rows, columns = np.mgrid[-50:50, -50:50]
    Image.fromarray(((rows**2 + columns**2 < 1600) * 120).astype(np.uint8)).save(disc)
    films = [labelled / name / "0.png" for name in NAMES]
    command = ["classify", calibrated / "bundle", *films, disc]
    said = json.loads(run(*command, "--json", "--top", 1).stdout)
    assert said["calibrated"] is True
    for name, result in zip(NAMES, said["results"][:3], strict=True):
        says = {one["label"]: one["says"] for one in result["decision"]["findings"]}
        assert not result["decision"]["unlike"]
        assert says[name] in ("present", "uncertain")
        assert name in result["decision"]["likely"]
    assert said["results"][3]["decision"]["unlike"] is True
    told = run(*command)
    assert told.stdout.count(UNLIKE) == 1
    assert "present" in told.stdout
    assert "not calibrated" not in told.stderr
    assert "1 unlike all" in told.stderr
    run(*command, "--out", tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [row["unlike"] for row in table] == ["no", "no", "no", "yes"]
    assert table[3]["present"] == ""


def test_other_labels_are_not_calibrated(calibrated: Path, labelled: Path) -> None:
    film = labelled / NAMES[0] / "0.png"
    done = run("classify", calibrated / "bundle", film, "--label", "a cat", "--label", "a dog", "--json")
    said = json.loads(done.stdout)
    assert said["calibrated"] is False
    assert said["results"][0]["decision"]["findings"] == []
    assert "not calibrated" in run("classify", calibrated / "bundle", film, "--label", "a cat").stderr


def test_the_bundles_labels_in_another_order_are_not_taken_for_its_own(calibrated: Path) -> None:
    """Thresholds and scores are matched by place."""
    encoder = medge.load_encoder(calibrated / "bundle")
    own = encoder.label_bank
    assert own is not None
    same = medge.LabelBank(dict(own.prompts), own.embeddings)
    turned = medge.LabelBank(dict(reversed(own.prompts.items())), own.embeddings[::-1])
    assert encoder.calibrated(same)
    assert not encoder.calibrated(turned)


def test_without_calibration_the_scores_say_so(bundle: Path, labelled: Path) -> None:
    film = labelled / NAMES[0] / "0.png"
    assert "these labels are not calibrated" in run("classify", bundle, film).stderr
    said = json.loads(run("classify", bundle, film, "--json").stdout)
    assert said["calibrated"] is False
    assert said["results"][0]["decision"] is None
    assert medge.load_encoder(bundle).classify(film)[0].decision is None


def test_python_fits_the_same(calibrated: Path, labelled: Path) -> None:
    encoder = medge.load_encoder(calibrated / "bundle")
    files = sorted(labelled.glob("*/*.png"))
    truth = [file.parent.name for file in files]
    fitted = medge.calibrate_scores(encoder, encoder.embed_images(files), truth)
    assert fitted.facts.images == len(files)
    with pytest.raises(medge.MedgeError, match="no label a cat; it has abdomen CT"):
        medge.calibrate_scores(encoder, encoder.embed_images(files[:1]), ["a cat"])


def test_another_bundles_calibration_is_refused(
    calibrated: Path, make_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    """A file that was copied by hand, with the manifest mended: its thresholds are of other scores."""
    from medge.runtime.bundles.bundle import Bundle

    other = tmp_path / "bundle"
    shutil.copytree(make_bundle("fp32"), other)
    opened = Bundle.open(other)
    opened.amend(opened.manifest, {FILE: ("scores", (calibrated / "bundle" / FILE).read_bytes())})
    with pytest.raises(BundleError, match="fitted to other scores than this bundle's"):
        _ = medge.load_encoder(other).calibration


def test_what_anothers_thresholds_would_give(
    calibrated: Path, labelled: Path, make_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    other = tmp_path / "bundle"
    shutil.copytree(make_bundle("fp32"), other)
    command = ["calibrate-scores", other, "--data", labelled]
    said = json.loads(run(*command, "--against", calibrated / "bundle", "--json").stdout)
    own, borrowed = said["scores"], said["against"]
    assert own["fingerprint"] != borrowed["fingerprint"]
    assert own["kinds"][0]["likely_from"] != borrowed["kinds"][0]["likely_from"]
    assert borrowed["flagged"]["count"] == own["flagged"]["count"]
    refused = run(*command, code=1)
    assert "--force" in refused.stderr


def test_kinds_have_thresholds_of_their_own(bundle: Path, labelled: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    kinds = tmp_path / "kinds.json"
    kinds.write_text(json.dumps({"body": ["abdomen CT", "chest x-ray"], "head": ["head MRI"]}))
    command = ["calibrate-scores", tmp_path / "bundle", "--data", labelled, "--kinds", kinds]
    refused = run(*command, code=1)
    assert "all images of the kind 'head' have the label head MRI" in refused.stderr
    kinds.write_text(json.dumps({"body": ["abdomen CT", "chest x-ray"]}))
    assert "names no kind for head MRI (40)" in run(*command, code=1).stderr
    assert not (tmp_path / "bundle" / FILE).exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "medqa"], "asks questions"),
        (["--kind-column", "view"], "nothing called 'view'"),
        (["--task", "nih-cxr14"], "is not in there"),
    ],
)
def test_what_can_not_be_calibrated_is_said(
    words: list[Any], said: str, bundle: Path, labelled: Path, tmp_path: Path
) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    refused = run("calibrate-scores", tmp_path / "bundle", "--data", labelled, *words, code=1)
    assert said in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_it_goes_on_with_embeddings_that_are_there(bundle: Path, labelled: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    kept = tmp_path / "kept.safetensors"
    command = ["calibrate-scores", tmp_path / "bundle", "--data", labelled, "--embeddings", kept, "--json"]
    first = json.loads(run(*command).stdout)
    (labelled / NAMES[0] / "broken.png").write_bytes(b"no picture")
    try:
        shutil.rmtree(tmp_path / "bundle")
        shutil.copytree(bundle, tmp_path / "bundle")
        again = run(*command, code=3)
    finally:
        (labelled / NAMES[0] / "broken.png").unlink()
    second = json.loads(again.stdout)
    assert second["scores"] == first["scores"]
    assert second["failed"][0]["image"].endswith("broken.png")
