"""The pages of runs and of a comparison in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import runs
from pages_in_browser import check_it_is_dark_where_the_reader_wants_it, check_nothing_is_out_of_sight, written

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'medge[pages]'")

from medge.runtime.commands.evaluation.comparison.choice import chosen
from medge.runtime.evaluation.pages.comparison import render_comparison
from medge.runtime.evaluation.pages.run import WIDEST, render_run

LABELS = ["a_name_that_is_long_and_has_no_space_in_it", *(f"label {number}" for number in range(1, WIDEST))]
RESULTS = [
    runs.result("a-bundle-with-a-very-long-name-of-full-precision", 3_513_000_000, None),
    runs.result("a-bundle-with-a-very-long-name-of-8-bits", 884_000_000, runs.difference(-0.015, -0.035, 0.006)),
]
COMPARISON = {
    "task": {"name": "wrists", "title": "Wrists", "form": "one label", "method": "zero-shot", "source": "", "protocol": "All."},
    "limit": None, "seed": 0, "headline": "macro_auc", "results": RESULTS, "choice": chosen(RESULTS, "macro_auc", 0.02),
}  # fmt: skip
QUESTION = {"id": "folder/" + "x" * 120, "label": "A", "answer": "B", "text": "y" * 300}
SUBJECTS = {"subject": {name: {"count": 20, "figures": {"accuracy": runs.FIGURE}} for name in ("heart", "lung")}}
PAGES = {
    "images": lambda: render_run(runs.image_run(LABELS), runs.image_rows(LABELS, 40), "macro_auc", {}),
    "questions": lambda: render_run(runs.letter_run() | {"subgroups": SUBJECTS}, [QUESTION], "accuracy", {}),
    "comparison": lambda: render_comparison(COMPARISON),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("pages"), PAGES)


@pytest.mark.parametrize("kind", PAGES)
def test_the_page_can_be_read_anywhere(browser: Any, folder: Path, kind: str) -> None:
    check_nothing_is_out_of_sight(browser, folder / f"{kind}.html")
    check_it_is_dark_where_the_reader_wants_it(browser, folder / f"{kind}.html")
