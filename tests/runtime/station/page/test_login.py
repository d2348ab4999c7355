"""The page of a station that has users: the way in, a session that ends while somebody writes, and what a role sees."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from station_process import Running, station

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")

WORDS = "a long and good sentence"


@pytest.fixture(scope="module")
def locked(bundle: Path, few_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A station with two users and a study."""
    place = tmp_path_factory.mktemp("locked")
    shutil.copytree(bundle, place / "bundles" / "eyes")
    with station(place / "bundles", "--store", str(place / "store"), "--threads", "1") as running:
        running.upload(("film.dcm", (few_images / "CT_small.dcm").read_bytes()))
    for name, role in (("Amina", "admin"), ("Rui", "viewer")):
        command = [sys.executable, "-m", "medge", "station", "user", "add", str(place / "store"), name, "--role", role]
        subprocess.run(command, input=f"{WORDS}\n", text=True, check=True, capture_output=True)
    with station(place / "bundles", "--store", str(place / "store"), "--threads", "1") as running:
        yield running


@pytest.fixture
def page(browser: Any, locked: Running) -> Iterator[Any]:
    context = browser.new_context(locale="en-GB")
    opened = context.new_page()
    opened.goto(locked.told["url"])
    opened.get_by_role("heading", name="Log in").wait_for()
    yield opened
    context.close()


def enter(page: Any, name: str, password: str = WORDS) -> None:
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def test_nothing_is_shown_before_somebody_has_logged_in(page: Any) -> None:
    assert page.locator("nav a").count() == 0
    enter(page, "Amina", "wrong")
    page.locator("form .error", has_text="password").wait_for()
    enter(page, "Amina")
    page.locator("td.patient", has_text="CT1").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Log in").wait_for()
    assert page.locator("td.patient").count() == 0


def test_text_outlives_a_session_that_ends(page: Any) -> None:
    enter(page, "Amina")
    page.locator("td.patient a").first.click()
    area = page.locator("textarea")
    area.fill("Findings\nA long text.")
    page.evaluate(
        "async () => { const {csrf} = await (await fetch('/v1/session')).json();"
        " await fetch('/v1/session', {method: 'DELETE', headers: {'X-CSRF-Token': csrf}}) }"
    )
    page.get_by_role("button", name="Save").click()
    page.locator("dialog").wait_for()
    enter(page, "Amina")
    page.locator("dialog").wait_for(state="detached")
    assert area.input_value() == "Findings\nA long text."
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Version 1, by Amina").wait_for()
    assert page.get_by_label("Your name").input_value() == "Amina"  # who signs is who has logged in


def test_a_viewer_sees_and_changes_nothing(page: Any) -> None:
    enter(page, "Rui")
    page.locator("td.patient a").first.wait_for()
    assert page.locator("input[type=file]").count() == 0
    assert page.get_by_role("link", name="History").count() == 0
    page.locator("td.patient a").first.click()
    page.locator("textarea").wait_for()
    assert page.locator("textarea").evaluate("area => area.readOnly")
    for name in ("Save", "Sign", "Score again", "Remove study"):
        assert page.get_by_role("button", name=name).count() == 0
