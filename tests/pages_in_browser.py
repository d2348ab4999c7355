"""What holds of every page in a real browser: on a phone and a desk, light, dark and printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


def written(folder: Path, pages: Mapping[str, Callable[[], str]]) -> Path:
    """The folder, with a file for each page."""
    for kind, render in pages.items():
        (folder / f"{kind}.html").write_text(render(), encoding="utf-8")
    return folder


def check_nothing_is_out_of_sight(browser: Any, path: Path) -> None:
    """No part is wider than the screen, and the verdict is read without scrolling."""
    for size in (PHONE, DESK):
        page = browser.new_context(viewport=size).new_page()
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        hidden = "[...document.querySelectorAll('.wide')].filter(box => box.scrollWidth > box.clientWidth).length"
        assert page.evaluate(hidden) == 0
        status = page.locator(".status").bounding_box()
        assert status["y"] + status["height"] < size["height"]
        lead = page.locator(".verdict > p").bounding_box()
        assert lead["y"] + lead["height"] < size["height"]
        for mark in page.locator("td.pass, td.warn, td.fail").all():
            box = mark.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= size["width"]
        page.context.close()


def check_it_is_dark_where_the_reader_wants_it(browser: Any, path: Path) -> None:
    """The plots are, too; on paper everything is light."""
    found = {}
    for scheme in ("light", "dark"):
        page = browser.new_context(color_scheme=scheme).new_page()
        page.goto(path.as_uri())
        found[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        words = page.evaluate("getComputedStyle(document.querySelector('svg [style*=\"var(--ink)\"]')).fill")
        assert words == page.evaluate("getComputedStyle(document.body).color")  # plots have the page's ink
        page.emulate_media(media="print", color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.context.close()
    assert found["light"] == "rgb(255, 255, 255)"
    assert found["dark"] != found["light"]
