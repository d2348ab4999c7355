"""Generator bundles against PyTorch: every recipe's gates, on text and images that calibration never saw."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tolerances import FP32_ROUNDING, FP32_SUMS, LANGUAGE_STAGES

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")

from medge.export.jobs.generator import material_of, measure_generator_bundle
from medge.export.pages.parity import render_parity
from medge.export.parity.divergence import Divergence
from medge.export.parity.generator import Material
from medge.export.parity.questions import score_options
from medge.export.source.corpus import passage_prompts
from medge.export.standin.medgemma_mini import CONFIG
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.bundles.parity_report import GeneratorReport, ParityReport
from medge.runtime.errors import CheckpointError, ParityGateError
from medge.runtime.generator.conversation import Sampling, user
from medge.runtime.generator.load import load

# The recipes that CI measures, with the language model's; the others take the same path, and all are measured by
# benchmarks/generator_parity.py.
MEASURED = {"language=f16,projector=fast": "f16", "q8_0": "q8_0", "q4_k_m": "q4_k_m"}


def read_report(folder: Path) -> GeneratorReport:
    report = ParityReport.read(folder / "parity.json")
    assert isinstance(report, GeneratorReport)
    return report


@pytest.mark.parametrize("recipe", MEASURED)
def test_gates_on_held_back_text(reader_bundles: Callable[[str], Path], recipe: str) -> None:
    folder = reader_bundles(recipe)
    report = read_report(folder)
    assert report.gates
    assert [(gate.figure, gate.value) for gate in report.gates if not gate.passed] == []
    assert report.figures.tokenizer.ids_equal
    assert report.figures.prompt is not None
    assert report.figures.prompt.ids_equal
    assert [row.stage for row in report.stages["language"]] == [*(f"block {n}" for n in range(18)), "logits"]
    blocks = CONFIG["vision_config"]["num_hidden_layers"]
    tower = ["patch embedding", *(f"block {n}" for n in range(blocks)), "tower output", "projected tokens"]
    if "projector" in recipe:  # merged: blocks have no rows that could be compared
        tower = [tower[0], tower[-1]]
    assert [row.stage for row in report.stages["vision"]] == tower
    worst = max(row.pytorch_to_bundle for row in report.stages["language"])
    assert worst < LANGUAGE_STAGES[MEASURED[recipe]]


def test_a_matrix_and_compensation_help(reader_bundles: Callable[[str], Path]) -> None:
    figures = read_report(reader_bundles("q4_k_m")).figures
    assert figures.baseline is not None
    assert figures.text.kld.mean <= 0.85 * figures.baseline.kld.mean
    assert figures.text.same_top > figures.baseline.same_top


def test_page_has_its_plots(reader_bundles: Callable[[str], Path]) -> None:
    reports = [read_report(reader_bundles(name)) for name in MEASURED]
    page = render_parity(reports[-1], reports[:-1])
    assert page.count("<svg") == 4  # two towers, position, distance against size
    assert "llama.cpp without a matrix" in page
    assert not re.search(r'(src|href)="http', page)  # it loads nothing


def test_parity_command_restamps_the_bundle(
    tiny_reader: Path, tiny_gemma: Path, tmp_path: Path, few_images: Path
) -> None:
    copy = Path(shutil.copytree(tiny_reader, tmp_path / "copy"))
    (tmp_path / "t.txt").write_text("The lungs are clear. " * 40)
    questions = tmp_path / "q.jsonl"
    questions.write_text(json.dumps({"question": "Is the sky blue? yes or no", "options": ["yes", "no"], "answer": 0}))
    material = material_of([tmp_path / "t.txt"], few_images, [questions], sees=True)
    bundle = Bundle.open(copy, allow_failed_parity=True)
    assert bundle.manifest.status == "not measured"
    _, report = measure_generator_bundle(bundle, tiny_gemma, material)
    assert Bundle.open(copy, allow_failed_parity=True).manifest.status == report.status in ("passed", "failed")
    assert report.figures.tasks["q"].items == 1
    assert (copy / "parity.html").read_text().count("<svg") == 4
    with pytest.raises(CheckpointError, match="hashes differ"):
        other = Path(shutil.copytree(tiny_gemma, tmp_path / "other"))
        (other / "config.json").write_text((other / "config.json").read_text() + " ")
        measure_generator_bundle(Bundle.open(copy, allow_failed_parity=True), other, material)


def test_an_unmeasured_bundle_is_refused(tiny_reader: Path) -> None:
    with pytest.raises(ParityGateError, match="not measured"):
        load(tiny_reader)


def test_divergence_by_hand() -> None:
    """Two distributions over three tokens: KL, the first choice and the likelihood, worked out with logarithms."""
    p, q = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]), np.array([[0.25, 0.5, 0.25], [0.1, 0.1, 0.8]])
    found = Divergence.empty()
    found.add(np.log(p).astype(np.float32), np.log(q).astype(np.float32), [1, 2], 0, [0, 0])
    np.testing.assert_allclose(
        found.kld, [0.5 * np.log(2) + 0.3 * np.log(0.6) + 0.2 * np.log(0.8), 0], atol=FP32_ROUNDING
    )
    assert found.same == [False, True]
    np.testing.assert_allclose(found.bundle_nll, [-np.log(0.5), -np.log(0.8)], rtol=FP32_SUMS)
    assert found.figures().perplexity_ratio == pytest.approx(np.sqrt(0.3 / 0.5))


def test_tokens_belong_to_passages() -> None:
    """A text is a passage, and so is each promptful of a long one; joined and cut, every token keeps its own."""
    prompts, passages = passage_prompts(lambda text: [len(text)] * len(text), ["a" * 98, "b" * 600, "c" * 48], 2)
    assert [len(ids) - 1 for ids in prompts] == [len(of) for of in passages] == [511, 241]
    counts = np.bincount(np.concatenate(passages))
    assert counts.tolist() == [100, 511, 91, 50]


def test_options_of_several_tokens_are_scored_whole() -> None:
    table = np.log(np.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6], [0.5, 0.25, 0.25]]))

    def logits(items: list[int], first: int) -> np.ndarray:
        return np.stack([table[items[place]] for place in range(first, len(items))]).astype(np.float32)

    single = score_options(logits, [0], [[1], [2]])
    np.testing.assert_allclose(single, np.log([0.6, 0.3]), rtol=FP32_SUMS)
    several = score_options(logits, [0], [[1, 2], [2, 0]])
    np.testing.assert_allclose(several, np.log([0.6 * 0.6, 0.3 * 0.5]), rtol=FP32_SUMS)


def test_material_defaults_are_medges_own() -> None:
    material = material_of([], None, [], sees=True)
    assert isinstance(material, Material)
    assert material.images is not None
    assert len(material.images) == 16
    assert material_of([], None, [], sees=False).images is None


def test_the_stand_in_answers_about_images(gemma: Path, shared: Path, tmp_path: Path) -> None:
    """What the issue that asked for it demands, through a q8_0 bundle of its whole vocabulary: kinds at 80%, organs at 60%.

    It reaches 95% and 88%, whose intervals on 60 and 25 images lie above that.
    """
    from medge.export.jobs.generator import export_medgemma
    from medge.export.jobs.generator_job import GeneratorJob
    from medge.export.standin.public_data import mednist, vqa_rad
    from medge.export.standin.train_medgemma_projector import KIND, KINDS, ORGAN

    export_medgemma(GeneratorJob(gemma, tmp_path / "whole", "q8_0", skip_parity=True))
    generator = load(tmp_path / "whole", context=512, allow_failed_parity=True)
    kinds = list(mednist(shared, "test"))[::20]
    right = sum(generator.chat([user(e.image, KIND[0])], Sampling(8)).text == KINDS[e.label] for e in kinds)
    assert right / len(kinds) >= 0.8
    organs = list(vqa_rad(shared, "test"))[::4]
    right = sum(generator.chat([user(e.image, ORGAN[0])], Sampling(8)).text == e.facts["part"] for e in organs)
    assert right / len(organs) >= 0.6
    generator.close()
