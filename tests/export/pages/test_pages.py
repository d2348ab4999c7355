"""Parity pages of made-up reports: what they show, and that a template can't name what does not exist."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import get_args

import jinja2
import pytest
from reports import ENCODER, GENERATOR, judged

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'medge[export]'")

from medge.export.pages import parity
from medge.export.pages.parity import PAGES, render_parity
from medge.export.pages.plots import pages
from medge.quant.recipes.recipe import PIXELS, SAME_IDS
from medge.runtime.bundles.gates import Gate
from medge.runtime.bundles.manifest import KindName
from medge.runtime.bundles.parity_report import REPORTS, ParityReport


def test_every_kind_has_its_page_and_its_report() -> None:
    assert set(PAGES) == set(REPORTS) == set(get_args(KindName))


def test_an_encoder_page() -> None:
    page = render_parity(judged(ENCODER, PIXELS, Gate("vision.centred_cosine.min", ">=", 0.999)))
    assert page.count("<svg") == 5  # two towers, scores, ROC, size and time
    for said in ("0.8900 [0.7900, 0.9400]", "macro AUC", "calibration error", "chest x-ray, head MRI", "FAIL"):
        assert said in page
    assert not re.search(r'(src|href)="http', page)  # it loads nothing


def test_an_encoder_page_without_what_was_not_measured() -> None:
    figures = replace(
        ENCODER.figures, speed=None, text=None, vision=replace(ENCODER.figures.vision, centred_cosine=None),
        scores=replace(ENCODER.figures.scores, accuracy=None, auc=None, ece=None, auc_difference=None),
    )  # fmt: skip
    bare = replace(
        ENCODER, figures=figures, recipes={"vision": "int8"}, stages={"vision": ENCODER.stages["vision"]}, labelled=False,
        plots=replace(ENCODER.plots, roc=None),
    )  # fmt: skip
    page = render_parity(judged(bare, Gate("scores.auc_difference", "<=", 0.1)))
    assert page.count("<svg") == 3  # one tower, scores, size
    assert "not measured" in page
    assert "None" not in page


def test_a_generator_page() -> None:
    page = render_parity(judged(GENERATOR, *SAME_IDS), [GENERATOR])
    assert page.count("<svg") == 4  # two parts, position, distance against size
    for said in ("held-back text", "with an image", "llama.cpp without a matrix", "MedQA", "90 × Q4_K", "10.0%"):
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
