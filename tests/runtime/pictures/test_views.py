"""--frame and --window reach the file, in every command that reads images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import medge
from safetensors.numpy import load_file
from tolerances import FP32_EMBEDDING

import medge as package
from medge.runtime.pictures.view import View

BONE = View(window=(400, 1800))


@pytest.fixture
def labelled(few_images: Path, tmp_path: Path) -> Path:
    for label, names in {"ct": ("CT_small", "693_J2KI"), "us": ("examples_ybr_color", "examples_rgb_color")}.items():
        (tmp_path / "data" / label).mkdir(parents=True)
        for name in names:
            (tmp_path / "data" / label / f"{name}.dcm").write_bytes((few_images / f"{name}.dcm").read_bytes())
    return tmp_path / "data"


def embedded(bundle: Path, image: Path, out: Path, *words: object) -> Any:
    medge("embed", bundle, image, "--out", out, "--force", *words)
    return load_file(out)["embeddings"]


def test_encoders_commands_look_at_the_frame_that_is_asked_for(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    """These files have one frame: that there is no other is said by the reader of the file."""
    image = few_images / "CT_small.dcm"
    index = tmp_path / "i.index"
    medge("index", "build", bundle, index, image)
    for words in (
        ("classify", bundle, image),
        ("embed", bundle, image, "--out", tmp_path / "e.safetensors"),
        ("index", "build", bundle, tmp_path / "new.index", image),
        ("index", "add", bundle, index, few_images / "examples_rgb_color.dcm"),
        ("index", "search", bundle, index, "--image", image),
    ):
        said = medge(*words, "--frame", 7, code=None)
        assert "has 1 frame(s), so there is no frame 7" in said.stderr, words
        assert said.returncode in (1, 3), words
        assert "no window 'belly'" in medge(*words, "--window", "belly", code=1).stderr


def test_probes_look_at_the_frame_that_is_asked_for(bundle: Path, few_images: Path, labelled: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    probe = labelled.parent / "p.safetensors"
    medge("probe", "fit", bundle, labelled, "--out", probe)
    image = few_images / "CT_small.dcm"
    for words in (
        ("fit", bundle, labelled, "--out", probe, "--force"),
        ("predict", bundle, probe, image),
        ("evaluate", bundle, probe, labelled),
    ):
        assert "has 1 frame(s), so there is no frame 7" in medge("probe", *words, "--frame", 7, code=None).stderr
    plain, bone = (
        json.loads(medge("probe", "predict", bundle, probe, image, "--json", *words).stdout)["results"][0]
        for words in ((), ("--window", "bone"))
    )
    assert plain["probabilities"] != bone["probabilities"]


def test_language_models_commands_look_at_the_frame_that_is_asked_for(reader: Path, few_images: Path) -> None:
    image = few_images / "CT_small.dcm"
    room = ("--context", 512, "--limit", 4)
    for words in (("ask", reader, "What is it?", "--image", image), ("report", reader, image)):
        assert "so there is no frame 7" in medge(*words, *room, "--frame", 7, code=1).stderr
        assert "no window 'belly'" in medge(*words, *room, "--window", "belly", code=1).stderr
        medge(*words, *room, "--window", "-600,1500", code=None)
    said = medge("chat", reader, *room, "--frame", 7, said=f"what is @{image}?\n/quit\n")
    assert "so there is no frame 7" in said.stderr
    assert "for --image" in medge("ask", reader, "x", "--ct", image, "--window", "lung", code=2).stderr


def test_a_window_changes_what_is_embedded(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    image, out = few_images / "CT_small.dcm", tmp_path / "e.safetensors"
    encoder = package.load_encoder(bundle)
    plain, bone = encoder.embed_images(image), encoder.embed_images(image, view=BONE)
    assert float((plain @ bone.T).squeeze()) < 0.999
    for words in (("--window", "bone"), ("--window", "400,1800")):
        np.testing.assert_allclose(embedded(bundle, image, out, *words), bone, atol=FP32_EMBEDDING)
    np.testing.assert_allclose(embedded(bundle, image, out), plain, atol=FP32_EMBEDDING)
    assert "for images" in medge("embed", bundle, "--text", "x", "--window", "bone", code=2).stderr


def test_an_index_holds_what_was_looked_at(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    image, index = few_images / "CT_small.dcm", tmp_path / "i.index"
    medge("index", "build", bundle, index, image, "--window", "bone")
    same, other = (
        json.loads(medge("index", "search", bundle, index, "--image", image, "--json", *words).stdout)["results"][0][
            "cosine"
        ]
        for words in (("--window", "bone"), ())
    )
    assert same == pytest.approx(1, abs=FP32_EMBEDDING)
    assert other < 0.999
