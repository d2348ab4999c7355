"""CLIP as a family: what proves that a family of encoders is one file and a line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_checkpoints import LABELS, LENGTH, SIDE, WORDINGS, write_clip, write_drawings
from command_line import medge as run
from PIL import Image
from tolerances import EXACT_HOP, FP32_EMBEDDING, RANDOM_CLIP

import medge
from medge.export.families.encoder import EncoderReference
from medge.export.families.full_precision import FullPrecision
from medge.export.families.table import FAMILIES, open_encoder
from medge.export.families.transformers_versions import features, with_pillow
from medge.export.jobs.encoder import export_medsiglip_recipes
from medge.export.jobs.encoder_job import ExportJob
from medge.export.source.samples import read_samples
from medge.export.to_onnx.stages import full_graph
from medge.quant.onnx_graph.graph import Graph
from medge.runtime.assistants.agent import encoder_tools
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.bundles.parity_report import EncoderReport
from medge.runtime.encoder.encoder import Encoder, TextCutWarning
from medge.runtime.errors import CheckpointError, RecipeError, ToolError
from medge.runtime.golden.encoder import replay

RECIPES = ("fp32", "fp16", "int8", "int4")
CHANCE = 1 / len(LABELS)
Made = dict[str, tuple[Path, EncoderReport]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, towers_exported_once: None) -> Path:
    return tmp_path_factory.mktemp("clip")


@pytest.fixture(scope="module")
def drawings(place: Path) -> dict[str, Path]:
    """Three sets of drawings that share none, nor one with the training's."""
    names = {"calibration": (3, 11), "held-back": (10, 12), "probe": (4, 13)}
    return {name: write_drawings(place / name, count, seed) for name, (count, seed) in names.items()}


@pytest.fixture(scope="module")
def random_clip(place: Path) -> Path:
    return write_clip(place / "random", legacy_end=True)


@pytest.fixture(scope="module")
def trained_clip(place: Path) -> Path:
    return write_clip(place / "trained", legacy_end=False, steps=120)


def _export(checkpoint: Path, out: Path, drawings: dict[str, Path]) -> Made:
    job = ExportJob(
        checkpoint, out, calibration=drawings["calibration"], images=drawings["held-back"], labelled=True, target="avx2"
    )  # fmt: skip
    made = export_medsiglip_recipes(job, RECIPES)
    return {recipe: (bundle.folder, reports["onnx"]) for recipe, (bundle, reports) in zip(RECIPES, made, strict=True)}


@pytest.fixture(scope="module")
def random_bundles(place: Path, random_clip: Path, drawings: dict[str, Path]) -> Made:
    return _export(random_clip, place / "random-bundles", drawings)


@pytest.fixture(scope="module")
def trained_bundles(place: Path, trained_clip: Path, drawings: dict[str, Path]) -> Made:
    return _export(trained_clip, place / "trained-bundles", drawings)


@pytest.fixture(scope="module")
def encoder(trained_bundles: Made) -> Encoder:
    return medge.load(trained_bundles["fp32"][0])


@pytest.fixture(scope="module")
def full(random_clip: Path) -> Iterator[FullPrecision]:
    with FullPrecision(open_encoder(random_clip)) as opened:
        yield opened


def _own_embeddings(checkpoint: Path, images: list[Path], texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """What transformers gives for files and texts, of unit length, with its own processor, its tokenizer and its mask."""
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    model = CLIPModel.from_pretrained(checkpoint).eval()
    processor = AutoImageProcessor.from_pretrained(checkpoint, **with_pillow())
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    with torch.no_grad():
        pixels = processor([Image.open(path).convert("RGB") for path in images], return_tensors="pt")["pixel_values"]
        words = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
        found = (features(model.get_image_features(pixels)), features(model.get_text_features(**words)))
    return tuple(torch.nn.functional.normalize(rows, dim=-1).numpy() for rows in found)  # type: ignore[return-value]


@pytest.mark.parametrize("which", ["random", "trained"])
def test_the_bundle_gives_what_transformers_gives(
    request: pytest.FixtureRequest, which: str, drawings: dict[str, Path]
) -> None:
    """Images that are not square, texts of several lengths in one batch, both ways of saying which token ends a text."""
    checkpoint: Path = request.getfixturevalue(f"{which}_clip")
    opened = medge.load(request.getfixturevalue(f"{which}_bundles")["fp32"][0], allow_failed_parity=which == "random")
    images = sorted(drawings["held-back"].rglob("*.png"))[::9]
    texts = ["", "Red disc", WORDINGS[3].format(LABELS[4]), "X-ray of the chest (AP view), 2nd film!", "naïve café ½ µ"]
    theirs = _own_embeddings(checkpoint, images, texts)
    assert np.abs(opened.embed_images(images) - theirs[0]).max() < FP32_EMBEDDING
    assert np.abs(opened.embed_texts(texts) - theirs[1]).max() < FP32_EMBEDDING
    assert np.abs(theirs[1] @ theirs[1].T - 1).max() > 0.01  # the texts are told apart


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("which", ["random", "trained"])
def test_every_recipe_keeps_its_promise(request: pytest.FixtureRequest, which: str, recipe: str) -> None:
    folder, report = request.getfixturevalue(f"{which}_bundles")[recipe]
    if which == "trained":
        assert report.status == "passed", [gate for gate in report.gates if gate.passed is False]
    else:  # among random weights' scores chance decides which is the greatest: only embeddings are judged
        for figures in (report.figures.vision, report.figures.text):
            assert figures is not None
            assert figures.centred_cosine is not None
            assert figures.centred_cosine.mean >= RANDOM_CLIP[recipe]
    assert report.figures.text is not None
    assert report.figures.text.ids_equal
    opened = medge.load(folder, allow_failed_parity=which == "random")
    judged = list(replay(opened))
    assert len(judged) == 4  # pixels, images, ids, texts
    assert all(holds for *_, holds in judged)
    # Both hops, stage by stage: the exporter's is exact, whatever the recipe does.
    for tower, layers in (("vision", 2), ("text", 2)):
        rows = {row.stage: row for row in report.stages[tower]}
        first = "patch embedding" if tower == "vision" else "token embedding"
        assert list(rows) == [first, *(f"block {index}" for index in range(layers)), "pooled"]
        assert max(row.pytorch_to_fp32 for row in rows.values()) < EXACT_HOP["onnx"]


def test_zero_shot_survives(trained_bundles: Made) -> None:
    """On drawings that the training never saw; softmax over the labels is how CLIP is read."""
    for recipe, (_, report) in trained_bundles.items():
        accuracy = report.figures.scores.accuracy
        assert accuracy is not None
        assert accuracy.reference.low > 5 * CHANCE, recipe
        assert accuracy.bundle.low > 5 * CHANCE, recipe


def test_the_graphs_are_as_transformers_js_calls_them(random_bundles: Made) -> None:
    for recipe, suffix in zip(RECIPES, ("", "_fp16", "_quantized", "_q4"), strict=True):
        for tower, given, gives in (("vision", "pixel_values", "image_embeds"), ("text", "input_ids", "text_embeds")):
            graph = Graph.load(random_bundles[recipe][0] / "onnx" / f"{tower}_model{suffix}.onnx").model.graph
            assert [item.name for item in graph.input] == [given]
            assert [item.name for item in graph.output] == ["last_hidden_state", gives]


def test_the_quantizers_find_every_layer(full: FullPrecision, random_bundles: Made) -> None:
    """Six linear layers a block and the projection: none is hidden from them by a form that they don't know."""
    for tower in ("vision", "text"):
        graph = full_graph(full, tower)
        names = [linear.name for linear in graph.linears()]
        assert len(names) == 2 * 6 + 1
        assert "encoder.layers.1.mlp.fc2/MatMul" in names
    decisions = {
        recipe: {tower: facts.decisions for tower, facts in Manifest.read(random_bundles[recipe][0]).towers.items()}
        for recipe in ("int8", "int4")
    }  # fmt: skip
    for tower in ("vision", "text"):
        # The norms before attention and before each MLP; in the vision tower the one before the projection, too.
        assert decisions["int8"][tower]["smoothed_norms"] == (5 if tower == "vision" else 4)
        assert decisions["int4"][tower]["padded_mlps"] == 2  # 176 is not divisible by 32
        assert decisions["int4"][tower]["left_in_fp32"] == []


def test_the_manifest_says_what_a_device_needs(trained_bundles: Made, trained_clip: Path) -> None:
    manifest = Bundle.open(trained_bundles["int8"][0]).manifest
    assert manifest.preprocessing is not None
    assert (manifest.encoder.family, manifest.profile) == ("clip", "clip-crop")
    assert manifest.preprocessing.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert manifest.encoder.image_size == SIDE
    assert manifest.encoder.embedding_size == 64
    assert (manifest.encoder.logit_bias, manifest.encoder.tokenizer.length) == (0.0, LENGTH)
    config = json.loads((trained_clip / "config.json").read_text())["text_config"]
    assert manifest.encoder.tokenizer.end_id == manifest.encoder.tokenizer.pad_id == config["vocab_size"] - 1


def test_no_sigmoid_is_shown(
    trained_bundles: Made, encoder: Encoder, drawings: dict[str, Path], tmp_path: Path
) -> None:  # fmt: skip
    """CLIP learned to choose among texts: whether one of them holds by itself is nothing that its logits say."""
    assert Manifest.read(trained_bundles["fp32"][0]).encoder.sigmoid is False
    image = sorted(drawings["held-back"].rglob("*.png"))[0]
    [result] = encoder.classify(image, list(LABELS[:2]))
    assert result.sigmoid is None
    assert [score.probability for score in result.ranked()] == sorted(result.softmax.tolist(), reverse=True)
    [alone] = encoder.classify(image, LABELS[0])[0].ranked()
    assert (alone.softmax, alone.sigmoid, alone.probability) == (None, None, None)
    out = tmp_path / "scores.csv"
    told = run("classify", encoder.bundle.folder, image, "--label", LABELS[0], "--label", LABELS[1]).stdout
    assert "sigmoid" not in told
    assert "softmax" in told
    assert "cosine" in told
    run("classify", encoder.bundle.folder, image, "--label", LABELS[0], "--out", out)
    assert out.read_text().splitlines()[1].endswith(",")  # no probability: an empty cell
    with pytest.raises(ToolError, match="give at least two"):
        encoder_tools(encoder)[0].function(str(image), [LABELS[0]])


def test_ids_and_mask_are_the_tokenizers(encoder: Encoder, trained_clip: Path) -> None:
    from transformers import AutoTokenizer

    texts = [
        "",
        "a",
        "Red  disc\non black",
        "it's 3.5 cm x 2cm (left)",
        "ÄÖ ß — “x”",
        "no <|endoftext|> in here",
        "w " * 60,
    ]
    theirs = AutoTokenizer.from_pretrained(trained_clip)(
        texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="np"
    )
    ids, cuts = encoder.tokenizer.encode(texts)
    np.testing.assert_array_equal(ids, theirs["input_ids"])
    assert [cut.text for cut in cuts] == texts[-1:]
    plain = [index for index, text in enumerate(texts) if "<|" not in text]  # a mark inside a text ends it early
    np.testing.assert_array_equal(encoder.tokenizer.mask(ids)[plain], theirs["attention_mask"][plain])


def test_a_text_that_is_cut_is_told(encoder: Encoder) -> None:
    with pytest.warns(TextCutWarning, match=r"cut after '.*red disc.*', lost '.*disc on black"):
        encoder.embed_texts("red disc on white " * 12 + "red disc on black")


def test_the_command_line_takes_it(trained_clip: Path, drawings: dict[str, Path], tmp_path: Path, place: Path) -> None:
    """Export, classify, index, search and probe, as a user types them."""
    held = drawings["held-back"]
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({label: [label, f"a picture of a {label}"] for label in LABELS}))
    bundle = tmp_path / "bundle"
    run("export", "medsiglip", "--checkpoint", trained_clip, "--out", bundle, "--recipe", "int8",
        "--calibration", drawings["calibration"], "--labels", labels)  # fmt: skip
    files = sorted(held.rglob("*.png"))
    found = json.loads(run("classify", bundle, held, "--json").stdout)["results"]
    right = [row["labels"][0]["label"] == Path(row["image"]).parent.name for row in found]
    assert len(right) == len(files)
    assert np.mean(right) > 5 * CHANCE
    index = tmp_path / "drawings.index"
    run("index", "build", bundle, index, held)
    hits = json.loads(run("index", "search", bundle, index, "--text", "red disc on white", "--json").stdout)["results"]
    assert Path(hits[0]["image"]).parent.name == "red disc on white"
    probe = tmp_path / "probe.safetensors"
    run("probe", "fit", bundle, drawings["probe"], "--out", probe)
    judged = json.loads(run("probe", "evaluate", bundle, probe, held, "--json").stdout)
    assert judged["accuracy"]["value"] > 5 * CHANCE


def test_what_it_can_not_do_is_said(trained_clip: Path, tmp_path: Path, drawings: dict[str, Path]) -> None:
    few = drawings["calibration"]
    for job, reason in (
        (
            ExportJob(trained_clip, tmp_path / "b", "w8", formats=("coreml",)),
            "clip can't be written as CoreML packages",
        ),
        (
            ExportJob(trained_clip, tmp_path / "b", "fp32", profile="eval-tf"),
            "clip was not made for it; choose from clip-crop",
        ),
        (ExportJob(trained_clip, tmp_path / "b", "fast", calibration=few), "clip has a class token"),
        (ExportJob(trained_clip, tmp_path / "b", "int8", calibration=few, merge=2), "clip has a class token"),
    ):
        with pytest.raises(RecipeError, match=reason):
            list(export_medsiglip_recipes(job, [str(job.recipe)]))
    with pytest.raises(RecipeError, match="web: clip was never run in the page"):
        FAMILIES["clip"].allow("web")
    told = run("distill", "medsiglip", "--teacher", trained_clip, "--student", "small", "--images", few,
               "--out", tmp_path / "s", code=None)  # fmt: skip
    assert told.returncode != 0
    assert "clip can't be distilled" in " ".join(told.stderr.split())


def _changed(checkpoint: Path, folder: Path, name: str, **values: object) -> Path:
    shutil.copytree(checkpoint, folder)
    body = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**body, **values}))
    return folder


def test_other_checkpoints_are_refused(random_clip: Path, tmp_path: Path) -> None:
    known = ", ".join(kind for family in FAMILIES.values() for kind in family.model_types)
    with pytest.raises(CheckpointError, match=f"of type 'align'; the known types of encoders are {known}"):
        open_encoder(_changed(random_clip, tmp_path / "align", "config.json", model_type="align"))
    with pytest.raises(CheckpointError, match="a language model: use 'medge export medgemma'"):
        open_encoder(_changed(random_clip, tmp_path / "gemma", "config.json", model_type="gemma3"))
    squashed = _changed(random_clip, tmp_path / "squashed", "preprocessor_config.json", do_center_crop=False)
    with pytest.raises(CheckpointError, match="do_center_crop is False"):
        open_encoder(squashed).preprocessing("clip-crop")
    mute = _changed(random_clip, tmp_path / "mute", "config.json")
    for name in ("tokenizer.json", "vocab.json"):
        (mute / name).unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="tokenizer.json is missing"):
        open_encoder(mute)


def test_a_checkpoint_can_state_its_own_normalisation(random_clip: Path, tmp_path: Path) -> None:
    own = _changed(
        random_clip, tmp_path / "own", "preprocessor_config.json", image_mean=[0.1, 0.2, 0.3], image_std=[1, 2, 4],
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE},
    )  # fmt: skip
    opened = open_encoder(own)
    assert opened.preprocessing("clip-crop").mean == (0.1, 0.2, 0.3)
    first = read_samples(_one_picture(tmp_path)).inputs("clip-crop", SIDE, 1, opened.normalisation)[0]
    assert first[0, :, 5, 5].tolist() == pytest.approx([(1 - 0.1) / 1, (0 - 0.2) / 2, (0 - 0.3) / 4])


def _one_picture(folder: Path) -> Path:
    (folder / "picture").mkdir()
    Image.new("RGB", (50, 40), (255, 0, 0)).save(folder / "picture" / "red.png")
    return folder / "picture"


def test_every_family_says_what_it_is() -> None:
    from medge.runtime.pictures.preprocess import PROFILES

    for name, family in FAMILIES.items():
        assert issubclass(family, EncoderReference)
        assert family.family == name
        assert set(family.signatures) == {"vision", "text"}
        assert set(family.profiles) <= set(PROFILES)
    kinds = [kind for family in FAMILIES.values() for kind in family.model_types]
    assert len(kinds) == len(set(kinds))
