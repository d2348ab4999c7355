"""Exports from end to end: what they make, what they refuse, and what an interruption leaves."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import command_line
import numpy as np
import onnx
import pytest
from command_line import hears_ctrl_c
from PIL import Image
from tolerances import EXACT_HOP, FP32_ROUNDING

import medge
from medge.export.families.encoder import Signature
from medge.export.families.full_precision import FullPrecision
from medge.export.jobs.encoder import export_medsiglip, measure_bundle
from medge.export.jobs.encoder_job import ExportJob
from medge.export.source.samples import builtin_samples, read_samples
from medge.quant.onnx_graph.graph import Graph
from medge.quant.recipes.onnx import OnnxRecipe
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.device.cpu import pick_target
from medge.runtime.errors import BundleError, CheckpointError, ImageError, LabelError, RecipeError, StorageError
from medge.runtime.golden.encoder import replay
from medge.runtime.pictures.images import find_images, read_image


def test_the_bundle_has_the_layout_of_transformers_js(make_bundle: Callable[[str], Path]) -> None:
    for recipe, suffix in (
        ("int8", "_quantized"),
        ("fp32", ""),
        ("int4", "_q4"),
        ("fp16", "_fp16"),
        ("int8-static", "_int8"),
    ):
        bundle = make_bundle(recipe)
        for tower, name in (("vision", "pixel_values"), ("text", "input_ids")):
            model = onnx.load(bundle / "onnx" / f"{tower}_model{suffix}.onnx")
            assert [item.name for item in model.graph.input] == [name]
            more = {"patch_contributions"} if (recipe, tower) == ("int8", "vision") else set()  # exported with --maps
            assert {item.name for item in model.graph.output} == {"last_hidden_state", "pooler_output", *more}
            assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
        for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
            assert (bundle / name).is_file()


def test_without_text(
    checkpoint: Path, full_precision: FullPrecision, few_images: Path, labels_file: Path, tmp_path: Path
) -> None:
    job = ExportJob(checkpoint, tmp_path / "b", calibration=few_images, labels=labels_file, with_text=False)
    bundle, reports = export_medsiglip(job, full=full_precision)
    assert reports["onnx"].status == "passed"
    assert bundle.path("text") is None
    encoder = medge.load(tmp_path / "b")
    assert encoder.classify(few_images / "CT_small.dcm")[0].labels == bundle.manifest.labels
    with pytest.raises(BundleError, match="exported with --without-text"):
        encoder.embed_texts("x")
    replayed = [holds for *_, holds in replay(encoder)]
    assert replayed
    assert all(replayed)


@pytest.mark.parametrize(
    ("machine", "features", "target"),
    [("x86_64", {"avx2"}, "avx2"), ("x86_64", {"avx2", "avx_vnni"}, "avx512-vnni"), ("AMD64", {"avx512_vnni"}, "avx512-vnni"),
     ("aarch64", {"fp", "asimd", "asimddp"}, "arm-dotprod"), ("arm64", {"feat_dotprod"}, "arm-dotprod"),
     ("aarch64", {"fp", "asimd"}, "arm"), ("ARM64", set(), "arm")],
)  # fmt: skip
def test_the_target_of_a_machine(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: set[str], target: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("medge.runtime.device.cpu.cpu_features", lambda: frozenset(features))
    found, reason = pick_target("auto")
    assert found.name == target
    assert ("does not say" in reason) == (not features)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"recipe": "int3"}, RecipeError, "no recipe"),
        ({"profile": "nearest"}, RecipeError, "no preprocessing profile"),
        ({"target": "z80"}, RecipeError, "no target"),
        ({"with_text": False}, RecipeError, "bake labels in"),
        ({"labels": Path("/nonexistent/labels")}, LabelError, "can't be read"),
        ({"calibration": Path("/nonexistent")}, ImageError, "no image could be read|No such file"),
        ({"checkpoint": Path("/nonexistent")}, CheckpointError, "is not a folder"),
    ],
)
def test_bad_jobs_leave_nothing(
    checkpoint: Path, few_images: Path, tmp_path: Path, changes: dict[str, object], error: type[Exception], said: str
) -> None:
    job = ExportJob(**{"checkpoint": checkpoint, "out": tmp_path / "b", "calibration": few_images, **changes})  # type: ignore[arg-type]
    with pytest.raises(error, match=said):
        export_medsiglip(job)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_kept(bundle: Path, checkpoint: Path) -> None:
    before = (bundle / "manifest.json").read_bytes()
    with pytest.raises(StorageError, match="--force"):
        export_medsiglip(ExportJob(checkpoint, bundle))
    assert (bundle / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_export_leaves_no_bundle(shallow: Path, few_images: Path, tmp_path: Path, number: int) -> None:
    words = ["export", "medsiglip", "--checkpoint", shallow, "--out", tmp_path / "b", "--calibration", few_images]
    process = subprocess.Popen(
        [sys.executable, "-m", "medge", *map(str, words)], stderr=subprocess.PIPE, text=True, preexec_fn=hears_ctrl_c
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".b.partial-*/onnx/*")):  # until the first tower is being written
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode != 0
    assert "Traceback" not in said
    assert not (tmp_path / "b").exists()
    if number == signal.SIGINT:
        assert list(tmp_path.iterdir()) == []


def test_a_failed_gate_is_written_and_refused(
    checkpoint: Path, full_precision: FullPrecision, few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights damaged after quantization: the parity suite sees it, marks the bundle, and the runtime obeys."""
    from medge.runtime.errors import ParityGateError

    def damaged(graph: Graph) -> tuple[Graph, dict[str, object]]:
        small = graph.copy()
        name = next(linear.weight for linear in small.linears() if "layers.3.mlp.fc2" in linear.name)
        small.set_weight(name, small.array(name) * np.float32(0.2))
        return small, {}

    def quantize(graph: Graph, *_: object) -> tuple[Graph, dict[str, object]]:
        return damaged(graph) if "pixel_values" in str(graph.model.graph.input) else (graph.copy(), {})

    monkeypatch.setattr("medge.export.to_onnx.format.quantize", quantize)
    job = ExportJob(checkpoint, tmp_path / "b", "vision=int8,text=fp32", calibration=few_images)
    report = export_medsiglip(job, full=full_precision)[1]["onnx"]
    assert report.status == "failed"
    assert {gate.figure for gate in report.gates if gate.passed is False} >= {"vision.centred_cosine.mean"}
    # Two hops: the exporter is not to blame, and the stage where the error enters is the damaged block.
    rows = {row.stage: row for row in report.stages["vision"]}
    assert max(row.pytorch_to_fp32 for row in rows.values()) < EXACT_HOP["onnx"]
    assert rows["block 2"].fp32_to_bundle < FP32_ROUNDING < rows["block 3"].fp32_to_bundle
    with pytest.raises(ParityGateError, match="parity failed"):
        medge.load(tmp_path / "b")
    page = (tmp_path / "b" / "parity.html").read_text()
    assert "FAIL" in page


def test_parity_of_another_checkpoint_is_refused(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "note": "changed"}))
    with pytest.raises(CheckpointError, match="is not what .* was made from"):
        measure_bundle(Bundle.open(bundle), other, builtin_samples())


def test_labels_without_images_are_named(bundle: Path, few_images: Path, tmp_path: Path) -> None:
    """Of `bundle`'s three labels, two have a folder; the report's own words say the same."""
    for label, name in {"abdomen CT": "CT_small", "head MRI": "MR_small"}.items():
        (tmp_path / "films" / label).mkdir(parents=True)
        shutil.copy(few_images / f"{name}.dcm", tmp_path / "films" / label)
    told: list[str] = []
    samples = read_samples(tmp_path / "films", labelled=True)
    samples.tell_unseen(Bundle.open(bundle).manifest.labels, told.append)
    assert [message.partition(";")[0] for message in told] == ["films: no image of the label(s) chest x-ray"]
    samples.tell_unseen(("abdomen CT", "head MRI"), told.append)
    read_samples(few_images).tell_unseen(("abdomen CT",), told.append)  # images without labels
    assert len(told) == 1


def test_several_recipes_export_the_towers_once(
    shallow: Path, few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medge.export.to_onnx import stages

    exported: list[str] = []
    export_tower = stages.export_tower

    def counted(tower: object, signature: Signature) -> Graph:
        exported.append(signature.inputs[0])
        return export_tower(tower, signature)

    monkeypatch.setattr(stages, "export_tower", counted)
    words = ["export", "medsiglip", "--checkpoint", shallow, "--calibration", few_images, "--out", tmp_path / "all"]
    recipes = ["--recipe", "fp32", "--recipe", "vision=int8,text=fp16"]
    told = json.loads(command_line.medge(*words, *recipes, "--json", code=None).stdout)["results"]
    assert sorted(exported) == ["input_ids", "pixel_values"]
    assert [fact["out"] for fact in told] == [
        str(tmp_path / "all" / name) for name in ("fp32", "vision-int8_text-fp16")
    ]
    assert told[0]["bytes"] > told[1]["bytes"]
    for fact, made in zip(told, ({"vision": "fp32", "text": "fp32"}, {"vision": "int8", "text": "fp16"}), strict=True):
        manifest = Bundle.open(fact["out"], allow_failed_parity=True).manifest
        assert manifest.artefacts["onnx"].recipes == made
        assert fact["parity"]["onnx"]["status"] == manifest.status
    # What can't be is refused before anything is made.
    assert (
        "there is no recipe 'int3'"
        in command_line.medge(*words[:-1], tmp_path / "no", *recipes[:3], "int3", code=None).stderr
    )
    assert not (tmp_path / "no").exists()
    assert "exists" in command_line.medge(*words, "--recipe", "int8", *recipes[:2], code=None).stderr
    assert not (tmp_path / "all" / "int8").exists()


def test_one_failed_gate_of_several_is_the_commands(
    shallow: Path, few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medge.export.to_onnx import format as onnx_format

    def damaged(graph: Graph, recipe: OnnxRecipe, *rest: object) -> tuple[Graph, dict[str, object]]:
        small = graph.copy()
        if recipe.name == "fp16":
            name = next(linear.weight for linear in small.linears() if "mlp.fc2" in linear.name)
            small.set_weight(name, small.array(name) * np.float32(0.2))
        return small, {}

    monkeypatch.setattr(onnx_format, "quantize", damaged)
    done = command_line.medge(
        "export", "medsiglip", "--checkpoint", shallow, "--calibration", few_images, "--out", tmp_path / "all",
        "--recipe", "fp32", "--recipe", "fp16", code=4,
    )  # fmt: skip
    assert "fp16 failed its parity gate" in done.stderr
    assert "fp32 failed" not in done.stderr
    assert all(f"Parity of {name} with shallow" in done.stdout for name in ("fp32", "fp16"))


def copies(few_images: Path, folder: Path, count: int) -> Path:
    """Different pictures, as many as are asked for."""
    folder.mkdir()
    paths = list(find_images([few_images]))
    for number in range(count):
        pixels = read_image(paths[number % len(paths)]).copy()
        pixels[0, 0] = number, 7, 99  # a colour, which no grey film has there
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def test_what_is_fitted_on_is_not_judged_on(
    shallow: Path, shallow_full: FullPrecision, few_images: Path, tmp_path: Path
) -> None:
    folder = copies(few_images, tmp_path / "many", 32)
    _, reports = export_medsiglip(ExportJob(shallow, tmp_path / "a", "int4", calibration=folder), full=shallow_full)
    assert (reports["onnx"].images, reports["onnx"].held_back) == (16, True)
    fitted, judged = (set(map(bytes, half.images)) for half in read_samples(folder).halves())
    assert not fitted & judged
    assert len(fitted | judged) == 32
    few = command_line.medge(
        "export",
        "medsiglip",
        "--checkpoint",
        shallow,
        "--out",
        tmp_path / "b",
        "--recipe",
        "fp32",
        "--calibration",
        few_images,
    )
    assert "(not measured on held-back images)" in " ".join(few.stdout.split())
    assert "give others than the calibration's with --images" in few.stderr
    assert "Not measured on held-back images" in (tmp_path / "b" / "parity.html").read_text()
    manifest = Bundle.open(tmp_path / "b").manifest.artefacts["onnx"]
    assert manifest.parity is not None
    assert manifest.parity.held_back is False
    # Nor does measuring again on the same images take the doubt away.
    renamed = Path(shutil.copytree(few_images, tmp_path / "renamed"))
    others = tmp_path / "others" / few_images.name  # of the same name, and as many
    others.parent.mkdir()
    copies(few_images, others, len(list(few_images.iterdir())))
    for measured, held_back in ((few_images, False), (renamed, False), (folder, True), (others, True)):
        _, reports = measure_bundle(Bundle.open(tmp_path / "b"), shallow, read_samples(measured))
        assert reports["onnx"].held_back is held_back
    _, reports = export_medsiglip(
        ExportJob(shallow, tmp_path / "c", "fp32", calibration=few_images, images=folder), full=shallow_full
    )
    assert (reports["onnx"].images, reports["onnx"].held_back) == (32, True)


def test_merging_is_not_chosen_on_kinds_that_do_not_cover_the_users(
    shallow: Path, shallow_full: FullPrecision, few_images: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 32, 32, 3), np.uint8)
    (tmp_path / "noise").mkdir()
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "noise" / f"{number}.png")
    films = copies(few_images, tmp_path / "films", 12)
    job = ExportJob(shallow, tmp_path / "a", "fast", calibration=tmp_path / "noise", images=films)
    with pytest.raises(RecipeError, match="is chosen on noise, but .* of 12 images of films are unlike all in there"):
        export_medsiglip(job, full=shallow_full)
    assert not (tmp_path / "a").exists()
    # Among many others they would pass for chance, but not where they have a label of their own.
    others = np.random.default_rng(1).integers(0, 256, (90, 32, 32, 3), np.uint8)
    (tmp_path / "judged" / "noise").mkdir(parents=True)
    for number, pixels in enumerate(others):
        Image.fromarray(pixels).save(tmp_path / "judged" / "noise" / f"{number}.png")
    copies(few_images, tmp_path / "judged" / "film", 6)
    (tmp_path / "labels.txt").write_text("noise\nfilm\n")
    job = replace(job, images=tmp_path / "judged", labelled=True, labels=tmp_path / "labels.txt")
    with pytest.raises(RecipeError, match="is chosen on noise, but . of 6 images of judged/film are unlike all"):
        export_medsiglip(job, full=shallow_full)


def test_what_stands_in_both_folders_serves_once(
    shallow: Path, shallow_full: FullPrecision, few_images: Path, tmp_path: Path
) -> None:
    """Not the folders' names count but what the images show."""
    both, some = copies(few_images, tmp_path / "both", 40), tmp_path / "some"
    some.mkdir()
    for number in range(8):
        shutil.copy(both / f"{number:03}.png", some / f"film{number}.png")
    job = ExportJob(shallow, tmp_path / "a", "fp32", calibration=both, images=some)
    bundle, reports = export_medsiglip(job, full=shallow_full)
    assert (reports["onnx"].images, reports["onnx"].held_back) == (8, True)
    assert bundle.manifest.source.calibration is not None
    assert bundle.manifest.source.calibration.images == 32
    same = ExportJob(shallow, tmp_path / "b", "fp32", calibration=both, images=both)
    _, reports = export_medsiglip(same, full=shallow_full)
    assert (reports["onnx"].images, reports["onnx"].held_back) == (40, False)
    assert ", not measured on held-back images" in command_line.medge("inspect", tmp_path / "b").stdout
    with pytest.raises(RecipeError, match="chosen on your images and judged on others"):
        export_medsiglip(replace(same, out=tmp_path / "c", recipe="fast"), full=shallow_full)


def test_copies_of_a_picture_are_one(few_images: Path, tmp_path: Path) -> None:
    folder = copies(few_images, tmp_path / "many", 4)
    for number in range(4):
        shutil.copy(folder / f"{number:03}.png", folder / f"again{number}.png")
    fitted, judged = (set(map(bytes, half.images)) for half in read_samples(folder).halves())
    assert (len(fitted), len(judged), fitted & judged) == (2, 2, set())


def test_labels_of_no_images_are_refused(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    for words in (["export", "medsiglip", "--checkpoint", checkpoint, "--out", tmp_path / "a"],
                  ["parity", bundle, "--reference", checkpoint, "--out", tmp_path / "a"]):  # fmt: skip
        done = command_line.medge(*words, "--labelled", code=1)
        assert "say which folder with --images" in done.stderr, words


def test_how_many_patches_to_merge_is_not_chosen_on_a_handful(shallow: Path, few_images: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="chosen on your images and judged on others: give at least 200 images"):
        export_medsiglip(ExportJob(shallow, tmp_path / "a", "fast", calibration=few_images))
    assert not (tmp_path / "a").exists()


def test_folders_that_are_no_labels_are_named(
    shallow: Path, few_images: Path, labels_file: Path, tmp_path: Path
) -> None:
    for name in ("hand x-ray", "pnuemonia"):
        copies(few_images, tmp_path / name, 2)
    (tmp_path / "judged").mkdir()
    for name in ("hand x-ray", "pnuemonia"):
        (tmp_path / name).rename(tmp_path / "judged" / name)
    job = ExportJob(shallow, tmp_path / "a", "fp32", calibration=few_images, labels=labels_file, images=tmp_path / "judged",
                    labelled=True)  # fmt: skip
    with pytest.raises(LabelError, match=r"judged: no label for the folder\(s\).*pnuemonia"):
        export_medsiglip(job)


def test_images_that_can_not_be_read_are_named(shallow: Path, few_images: Path, tmp_path: Path) -> None:
    folder = copies(few_images, tmp_path / "films", 3)
    (folder / "broken.png").write_bytes(b"no film")
    done = command_line.medge(
        "export",
        "medsiglip",
        "--checkpoint",
        shallow,
        "--out",
        tmp_path / "a",
        "--recipe",
        "fp32",
        "--calibration",
        folder,
        "--images",
        folder,
        "--json",
    )
    assert f"skipped: {folder / 'broken.png'}" in done.stderr
    [failed] = json.loads(done.stdout)["failed"]  # once, though two options name it
    assert failed["image"] == str(folder / "broken.png")
    assert "broken.png" in failed["error"]
