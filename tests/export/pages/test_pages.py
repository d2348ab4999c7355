"""Parity pages of made-up reports: what they show, and that a template can't name what does not exist."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import jinja2
import numpy as np
import pytest
from PIL import Image
from reports import ENCODER, GENERATOR, judged

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'medge[export]'")

from medge.export.pages import parity
from medge.export.pages.parity import PAGES, render_parity
from medge.export.pages.templates import pages
from medge.export.pages.thumbnails import thumbnails
from medge.export.pages.verdict import encoder_verdict, generator_verdict
from medge.export.pages.words import interval, measured
from medge.quant.recipes.recipe import PIXELS, SAME_IDS
from medge.runtime.bundles.figures import Interval
from medge.runtime.bundles.gates import Gate
from medge.runtime.bundles.manifest import KindName
from medge.runtime.bundles.parity_report import REPORTS, GateResult, ParityReport
from medge.runtime.pages.words import number

ROOT = Path(__file__).parents[3]


def test_every_kind_has_its_page_and_its_report() -> None:
    assert set(PAGES) == set(REPORTS) == set(get_args(KindName))


def test_an_encoder_page() -> None:
    page = render_parity(judged(ENCODER, PIXELS, Gate("vision.centred_cosine.min", ">=", 0.999)))
    assert page.count("<svg") == 6  # two towers, scores, ROC, calibration, size and time
    for said in (
        "0.890<small>0.790 to 0.940",
        "macro AUC",
        "was 19",
        "sensitivity, bundle",
        "config.json 1f1f1f1f1f1f",
        "calibration error",
        "chest x-ray, head MRI",
        "FAIL",
    ):
        assert said in page
    assert not re.search(r'(src|href)="http', page)  # it loads nothing


def test_an_encoder_page_without_what_was_not_measured() -> None:
    figures = replace(
        ENCODER.figures, speed=None, text=None, vision=replace(ENCODER.figures.vision, centred_cosine=None),
        scores=replace(ENCODER.figures.scores, accuracy=None, auc=None, ece=None, auc_difference=None,
                       confusions=None, by_label=()),
    )  # fmt: skip
    bare = replace(
        ENCODER, figures=figures, recipes={"vision": "int8"}, stages={"vision": ENCODER.stages["vision"]}, labelled=False,
        plots=replace(ENCODER.plots, roc=None, calibration=None),
    )  # fmt: skip
    page = render_parity(judged(bare, Gate("scores.auc_difference", "<=", 0.1)))
    assert page.count("<svg") == 3  # one tower, scores, size
    assert "not measured" in page
    assert "None" not in page


def test_a_generator_page() -> None:
    page = render_parity(judged(GENERATOR, *SAME_IDS), [GENERATOR])
    assert page.count("<svg") == 4  # two parts, position, distance against size
    for said in ("held-back text", "with an image", "llama.cpp without a matrix", "MedQA", "90 × Q4_K", "10%"):
        assert said in page
    assert "None" not in page


def test_a_generator_page_without_images() -> None:
    size = replace(GENERATOR.figures.size, projector_bytes=None)
    figures = replace(
        GENERATOR.figures, size=size, image=None, pixels=None, prompt=None, baseline=None, tasks={}
    )  # fmt: skip
    bare = replace(GENERATOR, figures=figures, recipes={"language": "f16"}, stages={}, images=0, profile="")
    page = render_parity(bare)
    assert page.count("<svg") == 2
    assert "with an image" not in page
    assert "Tower and projector" not in page
    assert "None" not in page


def test_a_failed_gate_does_not_look_like_its_bound() -> None:
    for value, bound in ((0.98999, 0.99), (0.0100001, 0.01), (0.9899999, 0.99)):
        assert measured(GateResult("vision.centred_cosine.mean", ">=", bound, value, False)) != number(bound)
    assert measured(GateResult("x", ">=", 0.99, 0.99, True)) == number(0.99)
    assert interval(Interval(0.0, -0.02, float("nan"))) == "−0.020 to –"


def test_a_failed_gate_gets_its_advice() -> None:
    few = encoder_verdict(
        judged(ENCODER, PIXELS, Gate("scores.flips", "<=", 0.01), Gate("vision.cosine.min", ">=", 0.9999))
    )
    assert (few.status, few.tone) == ("failed", "bad")
    assert few.lead.startswith("2 of 3 gates do not hold.")
    assert "1 of 40 images (2.5%, 95% interval 0.443% to 12.9%)" in few.changed
    assert "no image of" not in few.compared
    others = replace(ENCODER.figures.scores, labels=(*ENCODER.figures.scores.labels, "hand x-ray"))
    missing = encoder_verdict(replace(ENCODER, figures=replace(ENCODER.figures, scores=others)))
    assert "Accuracy is among these labels alone: there was no image of hand x-ray." in missing.compared
    assert any("“chest x-ray”: the bundle finds 5.0 fewer of 100" in one for one in few.matters)
    assert any("more images, at least 100" in step for step in few.todo)
    assert any("another recipe" in step and "“vision”" in step for step in few.todo)
    good = encoder_verdict(judged(ENCODER, PIXELS))
    assert (good.status, good.tone) == ("passed", "good")
    assert len(good.todo) == 1
    assert good.todo[0].startswith("Nothing more for these images.")
    unseen = encoder_verdict(judged(replace(ENCODER, held_back=False, labelled=False), PIXELS))
    assert (unseen.tone, len(unseen.todo)) == ("warn", 2)
    assert "Not measured on held-back images" in unseen.lead
    text = generator_verdict(judged(GENERATOR, Gate("text.kld.ratio_to_plain", "<=", 0.5)))
    assert any("“language”" in step for step in text.todo)
    assert any("MedQA: 4 of 40 answers changed" in one for one in text.matters)


def test_pictures_only_where_they_were_asked_for() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 65535, (300, 200, 3)).astype(np.uint16) for _ in range(8)]
    small = thumbnails(ENCODER.plots, images)
    assert set(small) == {3, 7}
    picture = Image.open(io.BytesIO(base64.b64decode(small[7].removeprefix("data:image/jpeg;base64,"))))
    assert picture.format == "JPEG"
    assert max(picture.size) == 128
    assert not picture.getexif()
    plain, shown = render_parity(ENCODER), render_parity(ENCODER, pictures=small)
    assert "<img" not in plain
    assert "With --thumbnails" in plain
    assert shown.count("<img") == 3  # the changed one stands among the worst as well
    assert "look at it before it leaves the house" in shown
    assert "base64" not in ENCODER.to_json()


@pytest.mark.parametrize(
    ("report", "figure", "missing"),
    [(ENCODER, "vision.centered_cosine", "centered_cosine"), (ENCODER, "image", "image"),
     (GENERATOR, "text.kld.p95", "p95"), (GENERATOR, "scores.flips", "scores")],
)  # fmt: skip
def test_a_template_that_names_what_does_not_exist_fails(
    report: ParityReport, figure: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a condition, where jinja2's usual undefined values are simply false."""
    environment = pages()
    real, template = environment.loader, PAGES[report.kind].template
    assert real is not None
    source = real.get_source(environment, template)[0]
    monkeypatch.setattr(parity, "pages", lambda: environment)
    for slip in (f"{{{{ report.figures.{figure} }}}}", f"{{% if report.figures.{figure} %}}x{{% endif %}}"):
        broken = source.replace("{% block figures %}", "{% block figures %}" + slip)
        assert slip in broken
        environment.loader = jinja2.ChoiceLoader([jinja2.DictLoader({template: broken}), real])
        with pytest.raises(jinja2.UndefinedError, match=f"no attribute '{missing}'"):
            render_parity(report)


def test_a_warning_is_in_the_verdict_in_the_gates_and_in_what_to_do() -> None:
    assert GENERATOR.figures.image is not None
    kept = {"kld.mean": GENERATOR.figures.image.intervals["kld.mean"]}
    lost = replace(GENERATOR.figures.image, same_top=0.728, units=16, tokens=272, intervals=kept)
    report = judged(
        replace(GENERATOR, figures=replace(GENERATOR.figures, image=lost)), Gate("image.same_top", ">=", 0.6, warn=0.9)
    )
    verdict = generator_verdict(report)
    assert (verdict.status, verdict.tone) == ("passed with a warning", "warn")
    assert "differs in 27 of 100 tokens" in verdict.lead
    assert any("recipe of more bits" in step for step in verdict.todo)
    page = render_parity(report)
    assert '<td class="warn">warn</td>' in page
    assert "Measured on 272 tokens of 16 images." in page


def test_one_module_loads_matplotlib() -> None:
    """Loaded by another first, it would list its fonts in the user's home."""
    rooms = [ROOT / room for room in ("runtime", "quant", "export")]
    loads = re.compile(r"^\s*(?:import|from) matplotlib", re.MULTILINE)
    found = [path for room in rooms for path in room.rglob("*.py") if loads.search(path.read_text(encoding="utf-8"))]
    assert [path.name for path in found] == ["drawing.py"]
