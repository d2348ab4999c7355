"""A rounded language model finished: nearer to its checkpoint, at the same size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import medge

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")
from PIL import Image

from medge.export.distill.job import Finish, PassOptions, TrainOptions
from medge.export.distill.next_tokens import TokenObjective
from medge.export.jobs.finish import finish_bundle
from medge.export.jobs.generator import export_medgemma
from medge.export.jobs.generator_job import GeneratorJob
from medge.export.source.samples import calibrated_on, read_samples
from medge.quant.gguf_file.matrix_rows import decoded, stored_rows
from medge.quant.gguf_file.scales import HALVES, block_length
from medge.quant.texts.prompts import medical_texts
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.device.gguf_header import read_header
from medge.runtime.errors import CheckpointError, CorpusError, DistillationError, RecipeError, StorageError
from medge.runtime.generator.generator import Generator
from medge.runtime.golden.generator import replay_answers
from medge.runtime.pictures.images import Refused

QUICK = TrainOptions(steps=30, batch=4, rate=3e-3, save_every=5, cpu=True)


@pytest.fixture(scope="module")
def rounded(tiny_gemma: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rounded") / "q4_0"
    export_medgemma(
        GeneratorJob(tiny_gemma, out, "q4_0", without_importance=True, vocabulary="latin", skip_parity=True)
    )
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Texts, and questions of which one is about an image and one about none that can be read."""
    place = tmp_path_factory.mktemp("data")
    (place / "texts.txt").write_text("\n\n".join(medical_texts()))
    picture = np.random.default_rng(2).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    Image.fromarray(picture).save(place / "noise.png")
    (place / "broken.png").write_bytes(b"nothing")
    lines = [{"question": "What is it?", "answer": "noise", "image": "noise.png"},
             {"question": "What?", "answer": "gone", "image": "broken.png"}]  # fmt: skip
    (place / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place / "texts.txt", place / "questions.jsonl"


def job(rounded: Path, tiny_gemma: Path, data: tuple[Path, ...], out: Path, **changes: Any) -> Finish:
    made = Finish(
        rounded, out, tiny_gemma, data, length=64, positions=32, top=16, skip_parity=True, training=QUICK,
        data_pass=PassOptions(per_shard=16),
    )  # fmt: skip
    return replace(made, **changes)


def language(folder: Path) -> Path:
    return folder / Bundle.open(folder, allow_failed_parity=True).manifest.towers["language"].file


def test_a_finished_file_is_nearer_and_keeps_its_codes(
    rounded: Path, tiny_gemma: Path, data: tuple[Path, ...], tmp_path: Path
) -> None:
    before = language(rounded).read_bytes()
    told: list[object] = []
    bundle, report, result = finish_bundle(job(rounded, tiny_gemma, data, tmp_path / "out"), warn=told.append)
    assert report is None
    assert result.figures["divergence"] < 0.9 * result.figures["divergence_before"]
    assert [one.error for one in told if isinstance(one, Refused)] == [
        f"{data[1].parent / 'broken.png'}: can't be read"
    ]

    # What stands in the file is a factor for each block, and no more; types and sizes are what they were.
    old, new = read_header(language(rounded)), read_header(language(tmp_path / "out"))
    assert {name: (t.type, t.offset, t.bytes) for name, t in old.tensors.items()} == {
        name: (t.type, t.offset, t.bytes) for name, t in new.tensors.items()
    }
    for name, tensor in old.tensors.items():
        was, now = stored_rows(old.path, tensor), stored_rows(new.path, tensor)
        kinds = {kind.name: kind for kind in HALVES}
        if name.startswith("blk.") and tensor.type in kinds:
            kind = kinds[tensor.type]
            a, b = (decoded(rows, kind).reshape(-1, block_length(kind)) for rows in (was, now))
            largest = np.abs(a).argmax(1)[:, None]
            factor = np.take_along_axis(b, largest, 1) / np.take_along_axis(a, largest, 1)
            np.testing.assert_allclose(b, a * factor, rtol=0, atol=1e-6 * np.abs(a).max())
            assert not np.array_equal(was, now)
        elif name == "token_embd.weight":
            np.testing.assert_array_equal(was, now)
    assert language(rounded).read_bytes() == before

    # It is a bundle as any other: it opens, its golden answers are its own, and it says what was done, and on which images.
    opened = Bundle.open(tmp_path / "out", allow_failed_parity=True)
    finished = opened.manifest.towers["language"].decisions["finished"]
    assert finished["divergence"] == result.figures["divergence"]
    assert finished["steps"] == QUICK.steps
    with Generator(opened) as generator:
        assert all(holds for *_, holds in replay_answers(generator))
    for path in data[1].parent.glob("noise.png"):
        (tmp_path / "seen").mkdir()
        (tmp_path / "seen" / path.name).write_bytes(path.read_bytes())
    assert calibrated_on(read_samples(tmp_path / "seen"), opened.manifest.source.calibration)
    page = (tmp_path / "out" / "distillation.html").read_text()
    assert "A finish of" in page
    assert bundle.folder == tmp_path / "out"


def test_a_finish_that_was_cut_off_ends_the_same(
    rounded: Path, tiny_gemma: Path, data: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(QUICK, steps=12)
    finish_bundle(job(rounded, tiny_gemma, data, tmp_path / "whole", training=few))
    original = TokenObjective.terms

    def cut_off(self: Any, model: Any, rows: Any, step: int) -> Any:
        if step == 7:
            raise KeyboardInterrupt
        return original(self, model, rows, step)

    with monkeypatch.context() as patch:
        patch.setattr(TokenObjective, "terms", cut_off)
        with pytest.raises(KeyboardInterrupt):
            finish_bundle(job(rounded, tiny_gemma, data, tmp_path / "parts", training=few))
    assert not (tmp_path / "parts").exists()
    finish_bundle(job(rounded, tiny_gemma, data, tmp_path / "parts", training=few))
    assert language(tmp_path / "whole").read_bytes() == language(tmp_path / "parts").read_bytes()


def test_without_a_gain_there_is_no_bundle(
    rounded: Path, tiny_gemma: Path, data: tuple[Path, ...], tmp_path: Path
) -> None:
    wild = replace(QUICK, steps=3, rate=3.0)
    with pytest.raises(DistillationError, match=r"helped nothing: on \d+ held-back examples"):
        finish_bundle(job(rounded, tiny_gemma, data, tmp_path / "out", training=wild))
    assert not (tmp_path / "out").exists()


def test_what_can_not_be_finished_is_refused_at_once(
    rounded: Path, tiny_gemma: Path, tiny_reader: Path, bundle: Path, data: tuple[Path, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(RecipeError, match="is f16, which rounds nothing"):
        finish_bundle(job(tiny_reader, tiny_gemma, data, out))
    with pytest.raises(RecipeError, match="holds an encoder"):
        finish_bundle(job(bundle, tiny_gemma, data, out))
    with pytest.raises(CorpusError, match="stands in --data"):
        finish_bundle(job(rounded, tiny_gemma, data, out, texts=data[:1]))
    with pytest.raises(DistillationError, match="examples are too few"):
        finish_bundle(job(rounded, tiny_gemma, data[1:], out))
    with pytest.raises(StorageError, match="exists; choose another place"):
        finish_bundle(job(rounded, tiny_gemma, data, rounded))
    other = tmp_path / "other"
    other.mkdir()
    for path in tiny_gemma.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "note": 1}))
    with pytest.raises(CheckpointError, match="hashes differ"):
        finish_bundle(job(rounded, other, data, out))


def test_the_command_says_what_came_of_it(
    rounded: Path, tiny_gemma: Path, data: tuple[Path, ...], tmp_path: Path
) -> None:
    words = ["distill", "finish", rounded, "--teacher", tiny_gemma, "--data", data[0], "--out", tmp_path / "out", "--cpu",
             "--steps", 20, "--batch", 4, "--rate", 3e-3, "--length", 64, "--json"]  # fmt: skip
    told = json.loads(medge(*words, code=None).stdout)
    assert told["figures"]["divergence"] < told["figures"]["divergence_before"]
    status = Bundle.open(tmp_path / "out", allow_failed_parity=True).manifest.status
    assert told["parity"]["status"] == status != "not measured"
