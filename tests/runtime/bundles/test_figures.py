"""Figures of parity reports: their types, their way through a file, and the gates that name them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reports import ENCODER, GENERATOR, judged

from medge.quant.recipes.coreml import COREML_RECIPES
from medge.quant.recipes.gguf import GGUF_RECIPES, PROJECTOR_RECIPES, RECIPES_OF
from medge.quant.recipes.onnx import ONNX_RECIPES
from medge.quant.recipes.recipe import PIXELS, SAME_IDS, STUDENT_GATES, Recipe, all_gates
from medge.runtime.bundles.figures import EncoderFigures, GeneratorFigures, Interval, KLDivergence, Spread, check_figure
from medge.runtime.bundles.gates import FEWEST, Gate, Measured
from medge.runtime.bundles.metrics import wilson
from medge.runtime.bundles.parity_report import GeneratorReport, ParityReport, judge
from medge.runtime.errors import BundleError

# Which parts stand together, and the type of what is measured on them.
PARTS: dict[type, dict[str, tuple[Mapping[str, Recipe], ...]]] = {
    EncoderFigures: {part: (ONNX_RECIPES, COREML_RECIPES) for part in ("vision", "text")},
    GeneratorFigures: dict(RECIPES_OF),
}  # fmt: skip


@pytest.mark.parametrize(
    ("figures", "part", "recipe"),
    [
        pytest.param(figures, part, recipe, id=f"{part}-{recipe.format}-{recipe.name}")
        for figures, parts in PARTS.items() for part, tables in parts.items() for table in tables for recipe in table.values()
    ],
)  # fmt: skip
def test_gates_of_recipes_name_figures(figures: type, part: str, recipe: Recipe) -> None:
    gates = all_gates({part: recipe})
    assert gates
    for gate in gates:
        check_figure(figures, gate.figure)


def test_common_gates_name_figures() -> None:
    for figures, gates in ((EncoderFigures, (PIXELS, *STUDENT_GATES)), (GeneratorFigures, (PIXELS, *SAME_IDS))):
        for gate in gates:
            check_figure(figures, gate.figure)


@pytest.mark.parametrize(
    ("path", "said"),
    [("vision.centered_cosine.min", "no figure"), ("speed.seconds", "no figure"), ("vision.cosine", "no single figure"),
     ("scores.labels", "no single figure"), ("vision.max_error.mean", "no figure"), ("image.kld.mean", "no figure")],
)  # fmt: skip
def test_a_gate_on_what_does_not_exist_is_an_error(path: str, said: str) -> None:
    unmeasured = replace(ENCODER.figures, speed=None)  # what was not measured is checked as well
    with pytest.raises(LookupError, match=said):
        judge(unmeasured, [Gate(path, "<=", 1.0)])


def test_a_figure_that_is_none_was_not_measured_and_nan_fails() -> None:
    figures = replace(
        ENCODER.figures, text=None, vision=replace(ENCODER.figures.vision, max_error=float("nan"))
    )  # fmt: skip
    gates = [PIXELS, Gate("vision.max_error", "<=", 1.0), Gate("text.centred_cosine.min", ">=", 0.9)]
    results = {result.figure: (result.value is None, result.passed) for result in judge(figures, gates)}
    assert results == {
        "pixels.max_error": (False, True), "vision.max_error": (False, False), "text.centred_cosine.min": (True, None),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("bound", "changed", "images", "passed"),
    [(0.01, 1, 22, True), (0.01, 2, 22, False), (0.01, 1, 19, False), (0.0, 1, 22, False), (0.01, 1, 100, True),
     (0.01, 2, 199, False), (0.01, 2, 200, True)],
)  # fmt: skip
def test_one_of_few_images_may_change_and_is_told(bound: float, changed: int, images: int, passed: bool) -> None:
    low, high = wilson(changed, images)
    found = Gate("scores.flips", "<=", bound).judge(Measured(changed / images, low, high, images, "images"))
    assert found.passed is passed
    assert not found.contradicts
    assert bool(found.warning) is passed  # the interval reaches beyond the bound in each of these


def test_ids_are_gated_as_numbers() -> None:
    different = replace(GENERATOR.figures, tokenizer=replace(GENERATOR.figures.tokenizer, ids_equal=False))
    assert [result.passed for result in judge(different, SAME_IDS)] == [False, True]


def test_the_coarser_tower_decides_the_score_gates() -> None:
    recipes = {"vision": ONNX_RECIPES["fp32"], "text": ONNX_RECIPES["int4"]}
    bounds = {gate.figure: gate.bound for gate in all_gates(recipes)}
    assert bounds["scores.flips"] == 0.02
    assert bounds["vision.max_error"] == 2e-5
    assert bounds["text.centred_cosine.mean"] == 0.99


def _language(recipe: str, **changed: Any) -> GeneratorReport:
    """Made-up figures held against the gates of a language recipe, q8_0's tower beside it; `changed` are those after an image."""
    near = replace(
        GENERATOR.figures.text, kld=KLDivergence(0.002, 0.001, 0.02, 0.5), same_top=0.97, tokens=1200, units=12, intervals={}
    )  # fmt: skip
    assert GENERATOR.figures.image is not None
    image = replace(GENERATOR.figures.image, **{**vars(near), "units": 16, "tokens": 272, **changed})
    image = replace(image, centred_cosine=Spread(0.9999, 0.999, 0.9991), cosine=Spread(0.9999, 0.999, 0.9991))
    report = replace(GENERATOR, figures=replace(GENERATOR.figures, text=near, image=image))
    found: GeneratorReport = judged(
        report, *SAME_IDS, *all_gates({"language": GGUF_RECIPES[recipe], "projector": PROJECTOR_RECIPES["q8_0"]})
    )
    return found


def test_three_verdicts() -> None:
    assert (_language("q4_k_m").verdict, _language("q4_k_m").warnings) == ("passed", ())
    lost = _language(
        "q4_k_m", kld=KLDivergence(0.54, 0.2, 3.9), same_top=0.728, intervals={"same_top": Interval(0.728, 0.67, 0.79)}
    )
    assert (lost.status, lost.verdict) == ("passed", "passed with a warning")  # phones read the status: it is usable
    [told] = lost.warnings
    assert told == (
        "with an image in the prompt: the first choice of words differs in 27 of 100 tokens (95% interval 21 to 33); "
        "the KL divergence of the next word is 0.54 nats on average; "
        "in one of 100 tokens the KL divergence is above 3.9 nats (measured on 272 tokens of 16 images)"
    )
    assert lost.summary().warnings == (told,)
    other = _language("q4_k_m", kld=KLDivergence(1.1, 0.4, 6.5), same_top=0.49)
    assert other.verdict == "failed"
    assert {gate.figure for gate in other.gates if gate.passed is False} == {
        "image.same_top", "image.kld.mean", "image.kld.p99",
    }  # fmt: skip
    # What is a loss to tell at 4 bits is a fault at 8.
    assert _language("q8_0", kld=KLDivergence(0.54, 0.2, 3.9), same_top=0.728).verdict == "failed"


def test_too_little_passes_with_a_warning() -> None:
    few = _language("q4_k_m", units=FEWEST - 1)
    assert few.warnings == ("with an image in the prompt: only 5 images measured, too few to say what "
                            "others would give",)  # fmt: skip
    both = _language("q4_k_m", units=FEWEST - 1, same_top=0.728).warnings[0]
    assert "only 5 images" in both
    assert "differs in 27 of 100" in both
    assert _language("q4_k_m", units=FEWEST).verdict == "passed"
    assert "only 90 tokens" in _language("q4_k_m", tokens=90).warnings[0]
    wide = _language("q4_k_m", intervals={"kld.mean": Interval(0.002, 0.001, 1.2)})
    assert wide.warnings[0].endswith("(95% interval 0.001 to 1.2): by the interval it may be beyond the bound of 1 "
                                     "(measured on 272 tokens of 16 images)")  # fmt: skip


def test_a_text_model_has_no_gates_on_images() -> None:
    figures = {gate.figure for gate in all_gates({"language": GGUF_RECIPES["q4_k_m"]})}
    assert figures == {"text.same_top", "text.kld.mean", "text.kld.p99", "text.kld.ratio_to_plain"}


def test_the_coarser_part_decides_the_gates_after_an_image() -> None:
    recipes = {"language": GGUF_RECIPES["f16"], "projector": ONNX_RECIPES["turbo"]}
    bounds = {gate.figure: gate.bound for gate in all_gates(recipes)}
    assert (bounds["text.kld.mean"], bounds["image.kld.mean"]) == (1e-4, 0.3)


@pytest.mark.parametrize("report", [ENCODER, GENERATOR], ids=lambda report: report.kind)
def test_a_report_comes_back_as_it_was(report: ParityReport, tmp_path: Path) -> None:
    report = judged(report, PIXELS, Gate("text.max_error" if report is ENCODER else "image.max_error", "<=", 1e-9))
    path = tmp_path / "parity.json"
    path.write_text(report.to_json())
    again = ParityReport.read(path)
    assert again == report
    assert type(again) is type(report)
    assert again.status == "failed"
    assert json.loads(path.read_text())["kind"] == report.kind


def test_what_is_no_report(tmp_path: Path) -> None:
    path = tmp_path / "parity.json"
    with pytest.raises(BundleError, match="was the bundle measured"):
        ParityReport.read(path)
    body = json.loads(ENCODER.to_json())
    for broken in (
        {**body, "figures": {**body["figures"], "colour": 1}}, {**body, "figures": 3}, {**body, "kind": "camera"}, [],
        {key: value for key, value in body.items() if key != "plots"},
    ):  # fmt: skip
        path.write_text(json.dumps(broken))
        with pytest.raises(BundleError, match="no report of this version"):
            ParityReport.read(path)
