"""The pages in a real browser: on a phone and a desk, light, dark and printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pages_in_browser import DESK, check_it_is_dark_where_the_reader_wants_it, check_nothing_is_out_of_sight, written
from reports import ENCODER, GENERATOR, ORIGIN, judged

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'medge[export]'")

from medge.export.pages.distillation import Distillation, render_distillation
from medge.export.pages.parity import render_parity
from medge.quant.recipes.recipe import PIXELS, SAME_IDS
from medge.runtime.bundles.gates import Gate

DISTILLATION = Distillation(
    ORIGIN, "medsiglip", "width=96,heads=3,depth=5", {"name": "medsiglip-mini", "sha256": ORIGIN.source},
    {"images": 13032, "texts": 318, "profile": "eval-tf", "quantize": None, "inherited_layers": [0, 1, 2, 4, 5],
     "training": {"steps": 1000, "batch": 64, "rate": 0.001, "precision": "no", "seed": 0}},
    {"regression": 0.0095, "centred_cosine": 0.9953},
    {"vision": [{"step": 10, "rate": 1e-3, "regression": 0.5, "relational": 0.1, "loss": 0.6},
                {"step": 20, "rate": 1e-3, "regression": 0.3, "relational": 0.05, "loss": 0.35},
                {"step": 20, "held_back_regression": 0.4, "held_back_centred_cosine": 0.9}]},
)  # fmt: skip

BLOCKS = tuple(replace(ENCODER.stages["vision"][0], stage=f"block {number}") for number in range(27))
PAGES = {
    "encoder": lambda: render_parity(
        judged(replace(ENCODER, stages={"vision": BLOCKS, "text": BLOCKS}), PIXELS, Gate("vision.max_error", "<=", 9.25926e-06))
    ),
    "generator": lambda: render_parity(judged(GENERATOR, *SAME_IDS), [GENERATOR]),
    "distillation": lambda: render_distillation(DISTILLATION),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("pages"), PAGES)


@pytest.mark.parametrize("kind", PAGES)
def test_nothing_is_out_of_sight(browser: Any, folder: Path, kind: str) -> None:
    check_nothing_is_out_of_sight(browser, folder / f"{kind}.html")


@pytest.mark.parametrize("kind", PAGES)
def test_the_page_is_dark_where_the_reader_wants_it(browser: Any, folder: Path, kind: str) -> None:
    check_it_is_dark_where_the_reader_wants_it(browser, folder / f"{kind}.html")


def test_the_roc_is_square(browser: Any, folder: Path) -> None:
    page = browser.new_context(viewport=DESK).new_page()
    page.goto((folder / "encoder.html").as_uri())
    box = page.locator("svg[aria-label=ROC] #patch_2").bounding_box()
    assert box["width"] == pytest.approx(box["height"], rel=0.02)
    page.context.close()
