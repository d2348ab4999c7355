"""Distillations from end to end, on the stand-ins: what comes out, what happens when they are cut off, what they refuse."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import medge, medge_process
from PIL import Image
from siglip_checkpoints import write_shallow
from tolerances import FP32_SUMS

from medge.export.distill.encoder import balanced, distill_medsiglip
from medge.export.distill.generator import distill_medgemma, layer_types
from medge.export.distill.image_teacher import view
from medge.export.distill.job import EncoderDistillation, GeneratorDistillation, PassOptions, TrainOptions
from medge.export.families.siglip import Reference
from medge.export.jobs.encoder import export_medsiglip, measure_bundle
from medge.export.jobs.encoder_job import ExportJob
from medge.export.pages.distillation import Distillation
from medge.export.source.checkpoint import Checkpoint
from medge.export.source.samples import read_samples
from medge.export.source.student_files import FACTS
from medge.runtime.bundles.metrics import accuracy, macro_auc
from medge.runtime.encoder.labels import LabelBank
from medge.runtime.errors import CheckpointError, CorpusError, DistillationError, ImageError, RecipeError, StorageError
from medge.runtime.pictures.images import labelled_folder, read_image
from medge.runtime.pictures.preprocess import preprocess

STUDENT = "width=96,heads=3,depth=2"
FEW = TrainOptions(steps=6, batch=4, save_every=2)


@pytest.fixture(scope="module")
def teacher(once: Callable[..., Path], checkpoint: Path) -> Path:
    """The stand-in's first three blocks, and its text tower: what a distillation is made of says little of answers."""
    return once("teacher", lambda folder: write_shallow(checkpoint, folder, 3))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, few_images: Path) -> Path:
    """A dozen pictures, cut into more, and a broken one."""
    from medge.runtime.pictures.images import read_image

    folder = tmp_path_factory.mktemp("archive")
    for number, path in enumerate(sorted(few_images.iterdir())):
        image = read_image(path)
        for part in range(3):
            rows, columns = image.shape[0] * 2 // 3, image.shape[1] * 2 // 3
            top, left = image.shape[0] * part // 6, image.shape[1] * part // 6
            piece = image[top : top + rows, left : left + columns]
            Image.fromarray((piece >> (8 if piece.dtype == np.uint16 else 0)).astype(np.uint8)).save(
                folder / f"{number:02d}-{part}.png"
            )
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    return folder


def job(teacher: Path, archive: Path, out: Path, **changes: Any) -> EncoderDistillation:
    made = EncoderDistillation(
        teacher, out, STUDENT, (archive,), data=PassOptions(per_shard=8), training=FEW, quantize_steps=3
    )
    return replace(made, **changes)


def weights(folder: Path) -> dict[str, Any]:
    opened = Checkpoint.open(folder)
    return {name: opened.tensor(name) for name in opened.names()}


def same_weights(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def distilled(
    teacher: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EncoderDistillation, Distillation, list[str]]:
    """A run with labels and captions: its job, what came of it, and what was said of images that could not be read."""
    place = tmp_path_factory.mktemp("distilled")
    labels = place / "labels.json"
    labels.write_text(json.dumps({"ct": ["a CT scan"], "photo": ["a colour photograph"]}))
    captions = place / "captions.jsonl"
    captions.write_text(
        '{"image": "00-0.png", "caption": "a CT slice"}\n{"image": "01-1.png", "caption": "a CT slice"}\n'
    )
    made = job(teacher, archive, place / "student", labels=labels, captions=captions)
    return made, *distill_medsiglip(made)


def test_a_student_is_an_ordinary_checkpoint(
    distilled: tuple[EncoderDistillation, Distillation, list[str]], teacher: Path, few_images: Path, tmp_path: Path
) -> None:
    """It exports, passes its own gates, and is measured against its teacher under the teacher's name."""
    (made, result, skipped), out = distilled, distilled[0].out
    assert len(skipped) == result.facts["skipped"] == 1
    assert "broken.png" in skipped[0].error
    assert "broken" not in (out / FACTS).read_text()  # a file's name can be a patient's
    assert result.facts["operations_to_teacher"] < 0.25
    trained = [row for row in result.curves["vision"] if "loss" in row]
    assert {"regression", "relational", "labels"} <= trained[0].keys()
    assert "<svg" in (out / "distillation.html").read_text()
    bundle, reports = export_medsiglip(
        ExportJob(out, tmp_path / "bundle", "int8", calibration=few_images, labels=made.labels)
    )
    assert reports["onnx"].status == "passed"
    assert bundle.manifest.encoder.embedding_size == 96
    measured, reports = measure_bundle(bundle, teacher, read_samples(few_images))
    (report,) = reports.values()
    assert list(reports) == ["teacher"]
    assert "teacher" in report.reference
    assert measured.manifest.teacher_parity is not None
    shown = medge("inspect", measured.folder).stdout
    assert re.search(rf"parity with its teacher\W+{measured.manifest.teacher_parity.status}", shown)
    assert measured.manifest.artefacts == bundle.manifest.artefacts  # its own parity stays
    assert (measured.folder / "teacher" / "parity.html").is_file()
    assert report.figures.text.centred_cosine.min > 0.98  # the text tower was kept, projected to half its width
    with pytest.raises(CheckpointError, match="hashes differ"):
        other = tmp_path / "other"
        shutil.copytree(teacher, other)
        (other / "config.json").write_text((other / "config.json").read_text() + "\n")
        measure_bundle(bundle, other, read_samples(few_images))


def test_a_kept_text_tower_of_full_width_is_the_teachers(teacher: Path, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    distill_medsiglip(job(teacher, archive, out, student="patch=28"))
    mine, theirs = weights(out), weights(teacher)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs if name.startswith("text_model"))
    assert not torch.equal(mine["vision_model.head.mlp.fc2.weight"], theirs["vision_model.head.mlp.fc2.weight"])


def test_a_smaller_text_tower_and_a_finish(teacher: Path, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    small = job(teacher, archive, out, text="depth=2,width=96,heads=3", quantize="int4")
    result, _ = distill_medsiglip(small)
    assert set(result.curves) == {"vision", "text", "vision, int4 in place", "text, int4 in place"}
    reference = Reference(Checkpoint.open(out, "siglip"))
    assert reference.model.config.text_config.num_hidden_layers == 2
    weight = reference.model.vision_model.encoder.layers[0].mlp.fc1.weight
    assert all(len(block.unique()) <= 16 for block in weight.reshape(-1, 32)[:200])


def words(out: Path, teacher: Path, archive: Path, *more: str, steps: int = 16) -> list[str]:
    """A distillation as it is typed."""
    return ["distill", "medsiglip", "--teacher", str(teacher), "--images", str(archive),
            "--student", STUDENT, "--steps", str(steps), "--batch", "4", "--save-every", "4",
            "--out", str(out), *more]  # fmt: skip


@pytest.fixture(scope="module")
def whole(teacher: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student of a run that nothing cut off."""
    out = tmp_path_factory.mktemp("whole") / "student"
    # In a process of its own, as the runs that it is held against: sums depend on the number of threads.
    done = medge_process(*words(out, teacher, archive), code=3)  # one image was skipped
    assert "broken.png" in done.stderr
    return out


def test_killed_and_started_again_it_ends_the_same(whole: Path, teacher: Path, archive: Path, tmp_path: Path) -> None:
    """Killed first in the teacher's pass and then in training."""
    parts = tmp_path / "parts"
    for moment in ("images", "train-vision"):
        process = subprocess.Popen(
            [sys.executable, "-m", "medge", *words(parts, teacher, archive)], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        watched = parts.with_name("parts.work") / moment
        while process.poll() is None and not any(watched.glob("[0s]*[0-9]")):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, moment  # it had not ended by itself
        assert not parts.exists()
    medge_process(*words(parts, teacher, archive), code=3)
    assert same_weights(whole, parts)
    assert json.loads((whole / FACTS).read_text())["curves"] == json.loads((parts / FACTS).read_text())["curves"]


def test_a_ray_cluster_gives_the_same_student(
    distilled: tuple[EncoderDistillation, Distillation, list[str]], teacher: Path, archive: Path, tmp_path: Path
) -> None:
    """Two of Ray's nodes on this machine, reached by address as a cluster is."""
    pytest.importorskip("ray", reason="pip install 'medge[ray]'")
    from ray.cluster_utils import Cluster

    here, there = distilled[0].out, tmp_path / "there"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        made = distill_medsiglip(job(teacher, archive, there, data=PassOptions("ray", cluster.address, 2, 8)))
    finally:
        cluster.shutdown()
    assert len(made[1]) == 1  # the image that was skipped
    mine, theirs = (np.load(next((place.with_name(f"{place.name}.work") / "images").glob("0*/embedding.npy")))
                    for place in (here, there))  # fmt: skip
    np.testing.assert_allclose(mine, theirs, atol=FP32_SUMS)  # another number of threads adds up in another order


def test_two_processes_make_one_student(teacher: Path, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1", "--module"]  # fmt: skip
    done = subprocess.run(
        [*launch, "medge", *words(out, teacher, archive, "--cpu", steps=30)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert (out / FACTS).is_file(), done.stderr[-3000:]
    losses = [row["loss"] for row in json.loads((out / FACTS).read_text())["curves"]["vision"] if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]  # thirty steps on a dozen images: it learns


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"student": "width=384"}, RecipeError, "wider than its teacher"),
        ({"text": "patch=7"}, RecipeError, "neither patches"),
        ({"images": (Path("nowhere"),)}, ImageError, "nowhere: No such file"),
    ],
)
def test_what_can_not_be_is_refused_at_once(
    teacher: Path, archive: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        distill_medsiglip(job(teacher, archive, tmp_path / "student", **changes))
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_and_nothing_readable_is_said(teacher: Path, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    with pytest.raises(StorageError, match="--force"):
        distill_medsiglip(job(teacher, archive, tmp_path / "student"))
    broken = tmp_path / "archive"
    broken.mkdir()
    shutil.copy(archive / "broken.png", broken)
    with pytest.raises(DistillationError, match="none of 1 images"):
        distill_medsiglip(job(teacher, broken, tmp_path / "other"))


def test_captions_of_images_that_are_not_there_are_named(teacher: Path, archive: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions.jsonl"
    captions.write_text('{"image": "gone.png", "caption": "x"}')
    with pytest.raises(CorpusError, match="line 1: gone.png is not below"):
        distill_medsiglip(job(teacher, archive, tmp_path / "student", captions=captions))


def test_views_are_the_same_on_every_call_and_the_first_is_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    assert view(image, 0, 3, 1) is image
    assert np.array_equal(view(image, 1, 3, 1), view(image, 1, 3, 1))
    assert view(image, 1, 3, 1).shape != view(image, 2, 3, 1).shape
    assert view(image.astype(np.uint16) * 257, 1, 3, 1).dtype == np.uint16
    assert view(image[:1, :1], 1, 0, 0).shape == (1, 1, 3)


def test_small_folders_are_seen_more_often() -> None:
    folder_of = np.array([0] * 900 + [1] * 9)
    shown = balanced(np.arange(909), folder_of)
    assert (shown < 900).sum() == 900
    assert (shown >= 900).sum() == 90


def held_out_scores(judged: Reference, shared: Path, place: Path) -> dict[str, float]:
    """Accuracy (of pneumonia, where one cut decides, AUC) on some test pictures, asked in wordings nobody trained on."""
    from medge.export.standin.medsiglip.held_out import SETS, held_out_prompts
    from medge.export.standin.public_data import write_folder

    scores = {}
    for dataset in SETS:
        if not (place / dataset).is_dir():
            write_folder(shared, dataset, "test", place / dataset, 30)
        bank = LabelBank.build(held_out_prompts(dataset), judged.embed_texts)
        paths, labels = labelled_folder(place / dataset)
        pixels = np.stack([preprocess(read_image(path), "eval-tf", judged.facts.image_size) for path in paths])
        cosines = judged.image_embeddings(pixels) @ bank.embeddings.T
        truth = np.array([bank.names.index(label) for label in labels])
        scores[dataset] = (macro_auc if dataset == "pneumoniamnist" else accuracy)(cosines.astype(np.float64), truth)
    return scores


def test_a_student_keeps_the_teachers_answers_and_beats_one_from_scratch(
    checkpoint: Path, reference: Reference, shared: Path, tmp_path: Path
) -> None:
    """A part of the training images and a hundred steps; benchmarks/distillation.py has the whole."""
    from medge.export.standin.public_data import write_folder

    for name, limit in (("mednist", 30), ("pneumoniamnist", 60), ("vqa_rad", None)):
        write_folder(shared, name, "train", tmp_path / "images" / name, limit)
    inherited = EncoderDistillation(
        checkpoint, tmp_path / "inherited", "width=96,heads=3,depth=5", tuple(sorted((tmp_path / "images").iterdir())),
        views=1, work=tmp_path / "work", training=TrainOptions(steps=80, batch=16),
    )  # fmt: skip
    scratch = replace(inherited, out=tmp_path / "scratch", inherit=False)
    results = {run.out.name: distill_medsiglip(run)[0] for run in (inherited, scratch)}
    assert results["inherited"].facts["operations_to_teacher"] <= 0.25
    unexplained = {name: result.figures["regression"] for name, result in results.items()}
    # A student that gave the mean for every image would leave 1 unexplained; on so few images this one leaves 0.03, and one from
    # scratch 0.12.
    assert unexplained["inherited"] < 0.1
    assert unexplained["inherited"] < 0.7 * unexplained["scratch"]
    teachers = held_out_scores(reference, shared, tmp_path / "test")
    reached = held_out_scores(Reference(Checkpoint.open(inherited.out, "siglip")), shared, tmp_path / "test")
    for dataset, score in teachers.items():  # it keeps 0.98 and more of each
        assert reached[dataset] > 0.9 * score, dataset


# Language models


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from medge.quant.texts.prompts import medical_texts

    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n\n".join([*medical_texts(), *medical_texts(held_back=True)] * 2))
    return path


def language_job(teacher: Path, texts: Path, out: Path, **changes: Any) -> GeneratorDistillation:
    made = GeneratorDistillation(
        teacher, out, "layers=3", (texts,), length=64, positions=16, top=8, data_pass=PassOptions(per_shard=16),
        training=TrainOptions(steps=6, batch=2, save_every=2, rate=1e-2, cpu=True),
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_shallower_gemma_learns_and_becomes_gguf(tiny_gemma: Path, texts: Path, tmp_path: Path, method: Any) -> None:
    from medge.export.jobs.generator import export_medgemma
    from medge.export.jobs.generator_job import GeneratorJob

    questions = tmp_path / "questions.jsonl"
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(tmp_path / "grey.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    lines = [{"question": "What is it?", "answer": "grey", "image": "grey.png"}, {"question": "And?", "answer": "no"},
             {"question": "What?", "answer": "gone", "image": "broken.png"}]  # fmt: skip
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "student"
    result, skipped = distill_medgemma(
        language_job(tiny_gemma, texts, out, data=(texts, questions), method=method, divergence="skewed")
    )
    assert len(skipped) == 1
    assert "broken.png" in skipped[0].error
    assert result.facts["with_image"] == 1
    assert result.facts["inherited_layers"][0] == 0
    losses = [row["loss"] for row in result.curves["training"] if "loss" in row]
    assert losses
    assert np.isfinite(
        losses
    ).all()  # what a random model says is next to even: there is little to learn, see the benchmark
    mine, theirs = weights(out), weights(tiny_gemma)
    assert "language_model.model.layers.2.mlp.up_proj.weight" in mine
    assert "language_model.model.layers.3.mlp.up_proj.weight" not in mine
    first = "language_model.model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(mine[first], theirs[first])
    for name in ("multi_modal_projector.mm_input_projection_weight", "language_model.model.embed_tokens.weight"):
        assert torch.equal(mine[name], theirs[name])
    assert json.loads((out / "config.json").read_text())["text_config"]["layer_types"] == layer_types(3)
    bundle, _ = export_medgemma(GeneratorJob(out, tmp_path / "bundle", "f16", skip_parity=True))
    assert bundle.manifest.generator.layers == 3


def test_a_cut_off_language_run_ends_the_same(
    tiny_gemma: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medge.export.distill.generator import TokenObjective

    distill_medgemma(language_job(tiny_gemma, texts, tmp_path / "whole"))
    original = TokenObjective.terms

    def cut_off(self: Any, model: Any, rows: Any, step: int) -> Any:
        if step == 4:
            raise KeyboardInterrupt
        return original(self, model, rows, step)

    with monkeypatch.context() as patch:
        patch.setattr(TokenObjective, "terms", cut_off)
        with pytest.raises(KeyboardInterrupt):
            distill_medgemma(language_job(tiny_gemma, texts, tmp_path / "parts"))
    distill_medgemma(language_job(tiny_gemma, texts, tmp_path / "parts"))
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def test_different_tokenizers_are_refused(tiny_gemma: Path, texts: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_gemma, other)
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((other / "tokenizer.model").read_bytes())
    model.pieces[1000].piece, model.pieces[2000].piece = model.pieces[2000].piece, model.pieces[1000].piece
    (other / "tokenizer.model").write_bytes(model.SerializeToString())
    if (fast := other / "tokenizer.json").is_file():  # transformers 5 reads this one
        body = json.loads(fast.read_text(encoding="utf-8"))
        vocabulary = body["model"]["vocab"]
        first, second = (next(piece for piece, number in vocabulary.items() if number == n) for n in (1000, 2000))
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        fast.write_text(json.dumps(body, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(DistillationError, match="different tokenizers"):
        distill_medgemma(language_job(tiny_gemma, texts, tmp_path / "out", student=str(other)))


def test_data_of_another_form_is_refused(tiny_gemma: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"answer": "x"}')
    with pytest.raises(CorpusError, match=r"data.jsonl, line 1: 'question' is missing; expected"):
        distill_medgemma(language_job(tiny_gemma, data, tmp_path / "out"))


def test_a_student_that_is_neither_folder_nor_shape_is_refused(tiny_gemma: Path, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="layers=N"):
        distill_medgemma(language_job(tiny_gemma, texts, tmp_path / "out", student="half"))
