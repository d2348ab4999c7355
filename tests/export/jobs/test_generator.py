"""Language models: one checkpoint, several bundles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import command_line
import pytest

from medge.export.families.generator_reference import GeneratorReference
from medge.export.jobs import full_language, generator
from medge.export.jobs.generator_job import GeneratorJob
from medge.runtime.bundles.bundle import Bundle


def test_several_recipes_convert_calibrate_and_compute_once(
    tiny_gemma: Path, few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[Path] = []
    calibrated: list[Path] = []
    computed: list[int] = []

    def counted(original: Any, into: list[Any], key: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            into.append(key(*args, **options))
            return original(*args, **options)

        return call

    monkeypatch.setattr(
        full_language, "write_language", counted(full_language.write_language, converted, lambda _, path, *rest: path)
    )
    monkeypatch.setattr(
        full_language, "calibrate", counted(full_language.calibrate, calibrated, lambda *_, scratch, **rest: scratch)
    )
    monkeypatch.setattr(
        GeneratorReference, "logits", counted(GeneratorReference.logits, computed, lambda _, items, *rest: len(items))
    )
    monkeypatch.setattr(generator, "MEASURED_IMAGES", 2)
    texts = tmp_path / "texts.txt"
    texts.write_text("The heart is of normal size. There is no pleural effusion, and both lungs are clear.\n" * 3)
    held_back = Path(shutil.copy(texts, tmp_path / "held_back.txt"))
    words = [
        "export", "medgemma", "--checkpoint", tiny_gemma, "--calibration", texts, "--calibration", few_images,
        "--texts", held_back, "--images", few_images,
    ]  # fmt: skip
    recipes = ["--recipe", "f16", "--recipe", "q4_k_m", "--recipe", "language=q8_0,projector=f16"]
    # Random weights need not pass a gate that is made for trained ones: what counts is what was made, and how often.
    told = json.loads(command_line.medge(*words, "--out", tmp_path / "all", *recipes, "--json", code=None).stdout)[
        "results"
    ]
    assert [fact["out"] for fact in told] == [
        str(tmp_path / "all" / name) for name in ("f16", "q4_k_m", "language-q8_0_projector-f16")
    ]
    assert len(converted) == 1
    assert len(calibrated) == 1
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(Path(f["out"]).name for f in told)
    for fact, language in zip(told, ("f16", "q4_k_m", "q8_0"), strict=True):
        bundle = Bundle.open(fact["out"], allow_failed_parity=True)
        assert bundle.manifest.towers["language"].recipe == language
        assert fact["parity"]["gguf"]["status"] == bundle.manifest.status != "not measured"
    of_three = len(computed)

    # One bundle alone asks PyTorch as often as three did: once for each prompt.
    computed.clear()
    command_line.medge(*words, "--out", tmp_path / "one", "--recipe", "q8_0", code=None)
    assert len(computed) == of_three > 0

    # Of a folder with more images than are measured, other ones would be left; here the same served.
    bundle = Bundle.open(tmp_path / "one", allow_failed_parity=True)
    parity = bundle.manifest.artefacts["gguf"].parity
    assert parity is not None
    assert not parity.held_back

    # What can't be is refused before anything is made.
    done = command_line.medge(*words, "--texts", texts, "--out", tmp_path / "no", *recipes, code=1)
    assert "stands in --calibration, but what a model is made with" in done.stderr
    done = command_line.medge(*words, "--out", tmp_path / "no", *recipes[:2], "--recipe", "q9", code=None)
    assert "there is no recipe 'q9'" in done.stderr
    assert not (tmp_path / "no").exists()


def test_a_text_model_is_judged_on_held_back_texts(few_tokens: Path, tmp_path: Path) -> None:
    """It has no images that could have served to calibrate it."""
    from gemma_checkpoints import write_tiny_gemma

    write_tiny_gemma(tmp_path / "text", few_tokens, sees=False)
    texts = tmp_path / "texts.txt"
    texts.write_text("The heart is of normal size. There is no pleural effusion, and both lungs are clear.\n" * 3)
    _, report = generator.export_medgemma(GeneratorJob(tmp_path / "text", tmp_path / "b", "f16", texts=(texts,)))
    assert report is not None
    assert report.held_back
