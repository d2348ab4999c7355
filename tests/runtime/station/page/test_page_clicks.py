"""The page in a browser, by clicks and keys."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from station_page import REPORT, Open

VIEWS = ("", "ask", "record", "history", "study/{ct}/findings", "study/{ct}/report", "study/{ct}/ask", "study/{ct}/similar",
         "study/{ct}/work", "study/{ct}/history")  # fmt: skip


def _go(page: Any, station: Open, view: str) -> None:
    page.goto(f"{station.url}/#/{view.format(**station.studies)}")
    page.wait_for_selector("main h1")
    page.wait_for_load_state("load")


def _until(page: Any, expression: str) -> None:
    """Until something holds in the page, whose policy forbids the eval that playwright waits with."""
    until = time.monotonic() + 10
    while not page.evaluate(expression):
        assert time.monotonic() < until, expression
        page.wait_for_timeout(50)


def _photo() -> dict[str, Any]:
    content = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), (200, 90, 90), np.uint8)).save(content, "JPEG")
    return {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": content.getvalue()}


def test_the_worklist_is_searched_and_filtered(page: Any, station: Open) -> None:
    _go(page, station, "")
    page.wait_for_selector(".row")
    everything = page.locator(".row").count()
    assert everything >= 4
    page.fill("[name=text]", "CompressedSamples^CT1")
    _until(page, "document.querySelectorAll('.row').length === 1")
    assert "CompressedSamples, CT1" in page.inner_text(".row")
    page.select_option("[name=modality]", "MR")
    page.wait_for_selector("text=No study fits these filters.")
    page.fill("[name=text]", "")
    page.wait_for_selector(".row:has-text('MR')")
    assert page.locator(".row").count() < everything
    page.reload()  # filters stay
    assert page.input_value("[name=modality]") == "MR"


def test_files_are_sent_and_appear_by_themselves(page: Any, phone: Any, station: Open) -> None:
    _go(phone, station, "")
    phone.wait_for_selector(".live[data-state=live]")
    _go(page, station, "")
    broken = {"name": "letter.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    page.set_input_files("input[type=file]:not([webkitdirectory], [capture])", [_photo(), broken])
    page.fill("[name=patient_name]", "Photo^Ann <b>bold</b>")
    page.click("dialog button.first")
    assert "letter.txt" in page.inner_text("dialog .refused")
    page.click("dialog .buttons button:visible")
    # On the other screen nobody has asked; what looks like HTML is text.
    phone.wait_for_selector(".row:has-text('<b>bold</b>')")
    assert phone.locator(".row b b").count() == 0
    phone.wait_for_selector(".row:has-text('Photo') .state-done")


def test_a_series_is_scrolled_zoomed_and_windowed(page: Any, station: Open) -> None:
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    _go(page, station, "study/{colour}/findings")
    page.wait_for_selector("figcaption:has-text('picture')")
    of = int(re.findall(r"of (\d+)", page.inner_text("figcaption"))[0])
    page.focus(".viewer")
    page.keyboard.press("Home")
    if of > 1:
        page.keyboard.press("ArrowDown")
        assert f"picture 2 of {of}" in page.inner_text("figcaption")
    _go(page, station, "study/{ct}/findings")
    _until(page, "document.querySelector('.viewer img').naturalWidth === 128")
    fits = page.inner_text(".tools output")
    page.focus(".viewer")
    page.keyboard.press("+")
    assert page.inner_text(".tools output") != fits
    with page.expect_response(lambda one: "window=lung" in one.url and one.ok):
        page.select_option(".tools select", "lung")
    box = page.locator(".viewer").bounding_box()
    asked.clear()
    page.click("text=Window")
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    with page.expect_response(lambda one: "window=" in one.url and "lung" not in one.url and one.ok):
        page.mouse.move(box["x"] + 160, box["y"] + 120, steps=20)
    page.mouse.up()
    assert page.inner_text(".values") == "centre -500, width 1,800"
    page.wait_for_timeout(150)
    assert 1 <= sum("window=" in url for url in asked) < 12  # not one for each move of the mouse


def test_scores_say_what_they_are(page: Any, station: Open) -> None:
    _go(page, station, "study/{ct}/findings")
    rows = page.locator(".scores tbody tr")
    rows.first.wait_for()
    assert {row.inner_text().split()[0]: row.inner_text().split()[2] for row in rows.all()} == {
        "grey": "present",
        "red": "absent",
    }
    assert page.inner_text(".findings .provenance").split("\n") == [
        "Bundle eyes",
        "Recipe vision int8",
        "Parity passed",
    ]
    _go(page, station, "study/{colour}/findings")
    page.wait_for_selector("text=Unlike anything this bundle was calibrated on")


def test_a_map_that_cannot_be_made_says_why(page: Any, station: Open) -> None:
    _go(page, station, "study/{ct}/findings")
    page.click(".scores button >> nth=0")
    page.wait_for_selector("#toast.bad:visible")
    assert page.inner_text("#toast")


def test_a_parked_job_says_why_and_is_tried_again(page: Any, station: Open) -> None:
    station.generator.error = RuntimeError("the model fell over")
    station.studies["parked"] = uid = station.studies["mr"]
    _go(page, station, f"study/{uid}/report")
    page.wait_for_selector(".drafting")
    page.click("text=Write a draft")
    _until_parked(station, uid)
    page.click("#tab-work")
    page.wait_for_selector(".work-parked")
    assert page.inner_text(".reason")
    station.generator.error, station.generator.script = None, REPORT
    page.click("text=Try again")
    page.wait_for_selector("li:has-text('Draft a report') .work-done", timeout=30_000)
    page.click("#tab-report")
    _until(page, "document.querySelector('.report textarea').value.includes('No finding.')")
    assert "Bundle reader" in page.inner_text(".report .provenance")


def _until_parked(station: Open, uid: str) -> None:
    """Let a failing job come back at once."""
    until = time.monotonic() + 30
    while not any(job.state == "parked" for job in station.station.queue.list(study=uid)):
        assert time.monotonic() < until
        with station.station.database.write() as connection:
            connection.execute("UPDATE jobs SET due = 0 WHERE study = ? AND state = 'waiting'", (uid,))
        station.station.queue.wake()
        time.sleep(0.1)


def test_an_answer_streams_and_is_stopped(page: Any, station: Open) -> None:
    station.generator.script = "The heart is of <i>normal</i> size and the lungs are clear."
    _go(page, station, "study/{ct}/ask")
    page.fill("[name=question]", "Is the heart large?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".bubble.it:has-text('lungs are clear.')")
    assert page.locator(".bubble.it i").count() == 0
    assert "Bundle reader" in page.inner_text(".bubble.it .provenance")
    [turn] = station.generator.asked[-1][0]
    assert len(turn.images) == 1  # the picture that is shown
    station.generator.gate = gate = threading.Event()
    station.generator.left.clear()
    try:
        page.fill("[name=question]", "And the bones?")
        page.click(".question button.first")
        page.click("button.stop:visible")
        page.wait_for_selector("text=Stopped by you.")
    finally:
        gate.set()
        station.generator.gate = None
    assert station.generator.left.wait(10)


def test_a_report_is_written_signed_released_and_reopened(page: Any, station: Open) -> None:
    uid = station.studies["film"]
    _go(page, station, f"study/{uid}/report")
    page.fill(".report textarea", "Findings\nNothing <b>new</b>.\n\nImpression\nNormal.")
    page.click("text=Save")
    page.wait_for_selector(".report .report-draft")
    page.click(".report button:has-text('Sign')")
    page.fill("[name=signature]", "Dr. Ann Lee")
    page.click("dialog button.first")
    page.wait_for_selector("text=Signed by Dr. Ann Lee")
    assert page.get_attribute(".report textarea", "readonly") is not None
    page.click(".report button:has-text('Release')")
    page.click("dialog button:has-text('Release')")
    page.wait_for_selector(".report .report-released")
    page.evaluate("window.print = () => window.dispatchEvent(new Event('beforeprint'))")
    page.click("text=Print or PDF")
    page.emulate_media(media="print")
    assert page.locator(".viewer").is_hidden()
    assert "Signed by Dr. Ann Lee" in page.inner_text(".paper")
    assert "Not a medical device" in page.inner_text(".paper")
    assert "<b>new</b>" in page.inner_text(".paper")
    page.emulate_media(media="screen")
    page.click(".report button:has-text('Reopen')")
    page.wait_for_selector(".report .report-draft")
    assert page.locator(".past li").count() >= 4


def test_two_people_write_and_nothing_is_lost(page: Any, station: Open) -> None:
    uid = station.studies["ct"]
    _go(page, station, f"study/{uid}/report")
    page.fill(".report textarea", "Mine.")
    made = page.evaluate(
        """async (path) => {
            const {version} = await (await fetch(path)).json();
            const body = JSON.stringify({text: 'Theirs.', version});
            return (await fetch(path, {method: 'PUT', headers: {'Content-Type': 'application/json'}, body})).status;
        }""",
        f"/v1/studies/{uid}/report",
    )
    assert made == 200
    page.wait_for_selector("text=Load the newest")
    assert page.input_value(".report textarea") == "Mine."
    page.click("text=Load the newest")
    assert page.input_value(".report textarea") == "Theirs."


def test_a_record_is_asked_and_its_sources_are_shown(page: Any, station: Open) -> None:
    allergy = {
        "resourceType": "AllergyIntolerance",
        "id": "a1",
        "code": {"text": "penicillin"},
        "recordedDate": "2024-02-03",
    }
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": allergy}]}
    station.generator.script = '{"answer": "Penicillin.", "sources": ["R1"]}'
    _go(page, station, "record")
    page.set_input_files(
        "[name=bundle]", {"name": "r.json", "mimeType": "application/json", "buffer": json.dumps(bundle).encode()}
    )
    page.fill("[name=question]", "Any allergy?")
    page.click("button.first")
    page.wait_for_selector(".sources summary")
    assert page.inner_text(".sources summary") == "AllergyIntolerance/a1 penicillin · 2024-02-03"
    page.click(".sources summary")
    assert '"penicillin"' in page.inner_text(".sources pre")


def test_similar_cases_lead_to_their_study(page: Any, station: Open) -> None:
    _go(page, station, "study/{ct}/similar")
    page.wait_for_selector(".similar a")
    address = page.get_attribute(".similar a >> nth=0", "href")
    page.click(".similar a >> nth=0")
    page.wait_for_url(f"**/{address}/findings")


def test_the_history_names_who_did_what(page: Any, station: Open) -> None:
    _go(page, station, "history")
    page.wait_for_selector("td:has-text('judged the pictures')")
    assert page.locator("td:has-text('sent a study')").count() >= 1


def test_language_and_colours_are_kept(page: Any, station: Open) -> None:
    _go(page, station, "")
    page.click(".menu summary")
    page.select_option("#theme", "dark")
    page.select_option("#language", "sw")
    page.wait_for_selector("h1:has-text('Orodha ya kazi')")
    page.reload()
    page.wait_for_selector("h1:has-text('Orodha ya kazi')")
    assert page.get_attribute("html", "lang") == "sw"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 21, 23)"


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_fits_a_phone_and_keeps_its_warning(phone: Any, station: Open, view: str) -> None:
    _go(phone, station, view)
    phone.wait_for_timeout(300)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    box = phone.locator("#notice").bounding_box()
    assert box["y"] + box["height"] <= 780


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Any, station: Open, axe: Callable[[Any], list[str]], scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    found = {}
    for view in VIEWS:
        _go(page, station, view)
        page.wait_for_timeout(400)
        found[view] = axe(page)
    assert {view: lines for view, lines in found.items() if lines} == {}
