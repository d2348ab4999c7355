"""A station for the browser, with four real studies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
from station_page import REPORT, Open, open_station

AXE = Path.home() / ".cache/medge/web/node_modules/axe-core/axe.min.js"
FILES = {"ct": "CT_small.dcm", "mr": "MR_small.dcm", "colour": "examples_ybr_color.dcm", "film": "693_J2KI.dcm"}


@pytest.fixture(scope="package")
def station(tmp_path_factory: pytest.TempPathFactory, pydicom_files: Path) -> Iterator[Open]:
    """Judged, and with a report on the CT that a person has begun."""
    with open_station(tmp_path_factory.mktemp("station")) as opened:
        opened.generator.script = REPORT
        opened.studies = {name: opened.take(pydicom_files / file) for name, file in FILES.items()}
        for uid in opened.studies.values():
            opened.wait(uid)
        yield opened


@pytest.fixture(autouse=True)
def _calm(station: Open) -> None:
    """What one test has told the model is not said to the next."""
    station.generator.error, station.generator.script, station.generator.gate = None, REPORT, None


@pytest.fixture
def page(browser: Any, station: Open) -> Iterator[Any]:
    """A desk's browser that speaks English; whatever its console complains of fails the test."""
    yield from _opened(browser, viewport={"width": 1280, "height": 900})


@pytest.fixture
def phone(browser: Any, station: Open) -> Iterator[Any]:
    """A narrow phone."""
    yield from _opened(browser, viewport={"width": 360, "height": 780}, has_touch=True)


def _opened(browser: Any, **given: Any) -> Iterator[Any]:
    context = browser.new_context(locale="en-GB", **given)
    made, faults = context.new_page(), list[str]()
    made.on("pageerror", lambda error: faults.append(str(error)))
    made.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    made.set_default_timeout(10_000)
    yield made
    context.close()
    assert faults == []


@pytest.fixture(scope="session")
def axe() -> Callable[[Any], list[str]]:
    """What axe-core finds wrong with a page: a line each."""
    if not AXE.is_file():
        pytest.skip("axe-core is not there: bash .ci/browser")
    source = AXE.read_text("utf-8")

    def look(page: Any) -> list[str]:
        # In the page's world without its policy: by the debugger's protocol, not by a script element.
        page.evaluate(source)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {json.dumps(one['nodes'][0]['target'])} {one['nodes'][0]['html'][:160]}"
            for one in found["violations"]
        ]

    return look
