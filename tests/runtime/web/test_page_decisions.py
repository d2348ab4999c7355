"""The page decides as Python does, and says so in words: on the screen and on paper."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import medge.runtime

HERE = Path(__file__).parent
PAGE = Path(medge.runtime.__file__).parent / "web"
GOLDEN = HERE.parents[1] / "golden/decisions.json"


def test_javascript_reproduces_the_golden_decisions() -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed: apt-get install nodejs")
    command = ["node", HERE / "decisions.mjs", PAGE, GOLDEN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    images = sum(len(case["images"]) for case in golden["cases"])
    assert json.loads(done.stdout) == {"images": images, "refused": len(golden["refused"])}


@pytest.fixture(scope="module")
def page(browser: Any, serve: Callable[[Path], str]) -> Iterator[Any]:
    """The page without a bundle: its parts can be called one by one."""
    opened = browser.new_context().new_page()
    opened.goto(serve(PAGE))
    yield opened
    opened.context.close()


SHOW = """async (judged) => {
  const { Result } = await import('./app/result.js');
  const result = new Result(document.getElementById('result'), 'film.dcm');
  document.getElementById('results').replaceChildren(result.element);
  result.showScores(judged, 1, 'facts.');
}"""
SCORES = [
    {"label": label, "cosine": cosine, "softmax": 0.5, "sigmoid": 0.25}
    for label, cosine in (("clear", 0.3), ("pneumonia", 0.2), ("2", 0.1))
]


def decision(*said: str, unlike: bool = False, kind: str = "chest film", likely: list[str] | None = None) -> Any:
    findings = [
        {"label": label, "says": says, "probability": 0.5}
        for label, says in zip(("pneumonia", "clear", "2"), said, strict=True)
    ]
    return {"unlike": unlike, "distance": 1, "kind": kind, "findings": findings, "likely": likely}


def shown(page: Any, decided: Any) -> str:
    page.evaluate(SHOW, {"scores": SCORES, "decision": decided})
    return str(page.inner_text(".result"))


def rows(page: Any) -> list[list[str]]:
    found: list[list[str]] = page.locator(".result tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return found


def bold(page: Any) -> list[str]:
    weights: list[list[str]] = page.locator(".result tbody tr").evaluate_all(
        "rows => rows.map(row => [row.dataset.label, getComputedStyle(row).fontWeight])"
    )
    return [label for label, weight in weights if int(weight) >= 600]


@pytest.mark.parametrize("media", ["screen", "print"])
def test_each_label_has_its_word(page: Any, media: str) -> None:
    page.emulate_media(media=media)
    text = shown(page, decision("present", "absent", "uncertain", likely=["pneumonia", "2"]))
    assert text.startswith("film.dcm: pneumonia: present")
    assert [row[:2] for row in rows(page)] == [["clear", "absent"], ["pneumonia", "present"], ["2", "uncertain"]]
    assert len(rows(page)[0]) == page.locator(".result thead th:visible").count() == 5
    assert bold(page) == ["pneumonia"]  # clear has the greater cosine
    assert "Kind of picture: chest film. Likely labels: pneumonia, 2." in text
    assert "thresholds that were set on labelled pictures" in text
    assert "not calibrated: they say which label is likelier" not in text
    assert "unlike" not in text
    page.emulate_media(media="null")


def test_words_fit_on_a_phone(page: Any) -> None:
    desk = page.viewport_size
    page.set_viewport_size({"width": 390, "height": 844})
    shown(page, decision("present", "absent", "not calibrated", likely=["pneumonia"]))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".result tbody tr").nth(2).inner_text().split("\t")[:2] == ["2", "not calibrated"]
    page.set_viewport_size(desk)


@pytest.mark.parametrize("media", ["screen", "print"])
def test_of_a_picture_unlike_all_no_label_is_shown(page: Any, media: str) -> None:
    page.emulate_media(media=media)
    text = shown(page, decision("uncertain", "uncertain", "uncertain", unlike=True, likely=["pneumonia", "clear", "2"]))
    assert text.startswith("film.dcm: unlike anything this bundle was calibrated on")
    assert "Its scores say nothing and are not shown." in text
    assert not any(label in text for label in ("pneumonia", "clear", "%", "Likely", "chest film"))
    assert rows(page) == []
    page.emulate_media(media="null")


@pytest.mark.parametrize("media", ["screen", "print"])
def test_without_a_calibration_it_says_so(page: Any, media: str) -> None:
    page.emulate_media(media=media)
    shown(page, decision("present", "absent", "uncertain", unlike=True))  # nothing of another view's result is left
    text = shown(page, None)
    assert text.startswith("film.dcm: clear\n")
    assert "The scores of this bundle are not calibrated" in text
    assert not any(word in text for word in ("present", "absent", "uncertain", "unlike", "Kind of picture"))
    assert rows(page)[0] == ["clear", "50.0 %", "25.0 %", "0.300"]
    assert bold(page) == ["clear"]
    page.emulate_media(media="null")


def test_what_stands_above_where_nothing_is_present(page: Any) -> None:
    for said, words in (
        (("absent", "uncertain", "uncertain"), "film.dcm: clear, 2: uncertain"),
        (("absent", "absent", "not calibrated"), "film.dcm: no label is present"),
        (("not calibrated",) * 3, "film.dcm: no label is calibrated for this kind of picture"),
    ):
        shown(page, decision(*said, kind="", likely=[]))
        assert page.inner_text(".result h2") == words
        assert page.inner_text(".result .decided") == "No label is likely enough to be named."
