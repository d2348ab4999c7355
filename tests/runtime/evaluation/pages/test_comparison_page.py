"""The page of a comparison of made-up runs."""

from __future__ import annotations

import re
from typing import Any

import pytest
import runs

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'medge[pages]'")

from medge.runtime.commands.evaluation.comparison.choice import chosen
from medge.runtime.evaluation.pages.comparison import render_comparison

FULL = runs.result("full", 40_000_000, None)
HALF = runs.result("half", 20_000_000, runs.difference(-0.004, -0.012, 0.005))


def page_of(results: list[dict[str, Any]], margin: float | None) -> str:
    task = {"name": "wrists", "title": "Wrists", "form": "one label", "method": "zero-shot", "source": "a hospital"}
    task["protocol"] = "Every film counts."
    page = render_comparison(
        {
            "task": task, "limit": 60, "seed": 2, "headline": "macro_auc", "results": results,
            "choice": chosen(results, "macro_auc", margin),
        }
    )  # fmt: skip
    assert "Research, not a medical device" in page
    assert "Every film counts." in page
    assert not re.search(r'(src|href)="(?!#)', page.replace('xlink:href="#', ""))
    assert "<script" not in page
    assert "None" not in page
    return page


def test_three_runs() -> None:
    quarter = runs.result("<b>quarter", 10_000_000, runs.difference(-0.015, -0.035, 0.006), peak_bytes=None)
    quarter["against_first"]["items"] = {"in_both": 38, "only_in_first": 2, "only_in_this": 0}
    page = page_of([FULL, HALF, quarter], 0.02)
    assert page.count("<svg") == 3  # size, memory, time
    for said in (
        "Ship half: it is the smallest that loses at most 0.02 of macro AUC against full", "not clear", "no worse",
        "above −0.02;", "−0.035 to +0.006", "&lt;b&gt;quarter", "not recorded", "One run did not record it",
        "2 items in full only; the difference is over the 38 that both have.", "60 at random, seed 2", "McNemar", "fracture",
    ):  # fmt: skip
        assert said in page, said
    assert page.count("0.62") == 6  # p of all and of two labels, of two runs


def test_two_runs_without_a_margin_and_without_what_old_runs_did_not_record() -> None:
    old = {"peak_bytes": None, "seconds_an_item": None}
    page = page_of([FULL | old, HALF | old], None)
    assert page.count("<svg") == 1
    assert "No margin was named" in page
    assert "half may lose up to 0.012 of macro AUC against full" in page
    assert "within the margin" not in page


def test_no_interval_and_no_answers() -> None:
    lost = runs.result("half", 20_000_000, runs.difference(-0.004, None, None))
    lost["against_first"] |= {"answers": None, "labels": {}}
    page = page_of([FULL, lost], 0.02)
    assert "Of half, 40 items can&#39;t tell: evaluate more." in page
    assert "Answers that changed" not in page
    assert "Not clear yet" in page
    asked = runs.result("half", 20_000_000, runs.difference(-0.004, -0.1, 0.1))
    for found in asked["against_first"]["labels"].values():
        del found["auc"]
    assert "AUC, difference" not in page_of([FULL, asked], 0.02)
