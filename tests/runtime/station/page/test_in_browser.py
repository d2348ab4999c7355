"""The station's page used by clicks and keys in Chromium, against `medge serve` with small bundles."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from station_process import Running, station

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'medge[station]'")
pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")

from medge.runtime.station.page import serve

AXE = Path.home() / ".cache/medge/web/node_modules/axe-core/axe.min.js"
NASTY = "Ha^<script>alert(1)</script>"
SIZES = ((360, 740), (1280, 900), (1920, 1080))
VIEWS = ("#/", "study", "#/ask", "#/record", "#/history")


def slices(source: Path, folder: Path, count: int) -> list[Path]:
    """A CT series of so many slices, of a patient with a nasty name."""
    found = []
    series = pydicom.uid.generate_uid()
    for number in range(count):
        one: Dataset = pydicom.dcmread(source)
        one.PatientName, one.SeriesInstanceUID, one.InstanceNumber = NASTY, series, number + 1
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        one.PixelData = np.roll(one.pixel_array, 8 * number, 0).tobytes()
        found.append(folder / f"{number}.dcm")
        one.save_as(found[-1])
    return found


@pytest.fixture(scope="module")
def served(
    bundle: Path, tiny_reader: Path, few_images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("page")
    shutil.copytree(bundle, place / "bundles" / "eyes")
    shutil.copytree(tiny_reader, place / "bundles" / "reader")
    with station(
        place / "bundles",
        "--store",
        str(place / "store"),
        "--threads",
        "1",
        "--context",
        "1024",
        "--allow-failed-parity",
    ) as running:
        yield running


@pytest.fixture
def page(browser: Any, served: Running) -> Iterator[Any]:
    """The worklist in a fresh window, in English."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    opened.goto(served.told["url"])
    opened.wait_for_selector("table.list")
    yield opened
    assert wrong == []
    context.close()


@pytest.fixture(scope="module")
def study(served: Running, few_images: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CT series that the station has judged; its address."""
    files = slices(few_images / "CT_small.dcm", tmp_path_factory.mktemp("ct"), 5)
    found = served.upload(*((path.name, path.read_bytes()) for path in files))
    uid = found["received"][0]["study"]
    served.wait(f"/v1/studies/{uid}", lambda one: one["state"] == "done" and one["results"])
    return f"#/study/{uid}"


def until(page: Any, holds: str, seconds: float = 30) -> None:
    """Wait for an expression. The page's policy lets no text run as script, so that it is asked from outside."""
    end = time.monotonic() + seconds
    while not page.evaluate(holds):
        assert time.monotonic() < end, holds
        page.wait_for_timeout(50)


def opened(page: Any, address: str) -> None:
    page.evaluate("address => { location.hash = address }", address)
    page.wait_for_selector(".stage" if "study" in address else "h1")


def test_files_are_brought_in_and_appear(page: Any, few_images: Path, tmp_path: Path) -> None:
    broken = tmp_path / "notes.txt"
    broken.write_text("no picture")
    page.set_input_files("input[type=file] >> nth=0", [few_images / "MR_small.dcm", broken])
    row = page.locator("tr", has_text="MR1")
    row.wait_for()
    assert "Files received: 1." in page.locator(".drop p").inner_text()
    assert "notes.txt:" in page.locator(".drop .error").inner_text()
    row.locator(".mark.done").wait_for(timeout=60_000)  # by an event, without a reload
    page.fill("input[type=search]", "no such patient")
    page.get_by_text("No study matches.").wait_for()
    page.fill("input[type=search]", "")
    page.select_option("select >> nth=1", "MR")
    row.wait_for()
    assert page.locator("tbody tr").count() == 1
    page.select_option("select >> nth=1", "")


def test_a_photo_is_asked_whose_it_is_and_a_cd_goes_in_portions(page: Any, served: Running, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(photo)
    page.set_input_files("input[type=file] >> nth=0", photo)
    dialog = page.locator("dialog")
    dialog.get_by_role("button", name="Do not send").click()
    dialog.wait_for(state="detached")
    assert "Drop DICOM files" in page.locator(".drop [role=status]").inner_text()  # nothing was sent
    page.set_input_files("input[type=file] >> nth=0", photo)
    page.get_by_label("Family name").fill("Diallo^")
    page.get_by_label("Given name").fill("Amina")
    page.get_by_label("Patient number").fill("4711")
    dialog.get_by_role("button", name="Send", exact=True).click()
    row = page.locator("tr", has_text="Diallo, Amina")
    row.wait_for()
    assert "4711" in row.inner_text()

    row.locator("a").click()
    page.wait_for_selector(".stage")
    later = [tmp_path / f"{number}.png" for number in range(90)]
    for number, path in enumerate(later):
        Image.fromarray(np.full((32, 32), number, np.uint8)).save(path)
    sent: list[str] = []
    page.on("request", lambda one: sent.append(one.url) if one.method == "POST" else None)
    page.set_input_files(".study input[type=file] >> nth=0", later)
    until(page, "document.querySelector('.seriesbox')?.innerText.includes('91')", 60)
    assert len([url for url in sent if url.endswith("/v1/studies")]) == 3
    assert page.locator("dialog").count() == 0  # the study says whose they are


def test_studies_are_found_by_their_date(page: Any, study: str) -> None:
    row = page.locator("tbody tr", has_text="alert")
    row.wait_for()
    page.get_by_label("From").fill("2004-01-19")  # CT_small's own day
    page.get_by_label("Until").fill("2004-01-19")
    until(page, "document.querySelectorAll('tbody tr').length === 1")
    row.wait_for()
    page.get_by_label("Until").fill("2004-01-18")
    page.get_by_text("No study matches.").wait_for()
    page.goto(page.url.split("#")[0] + "#/history")
    page.goto(page.url.split("#")[0] + "#/")
    assert page.get_by_label("From").input_value() == "2004-01-19"  # as they were left
    page.get_by_label("From").fill("")
    page.get_by_label("Until").fill("")
    row.wait_for()


def test_a_study_is_read_by_wheel_keys_and_window(page: Any, study: str) -> None:
    opened(page, study)
    stage, note = page.locator(".stage"), page.locator(".stage .note")
    until(page, "document.querySelector('.stage img').naturalWidth > 0")
    assert note.inner_text() == "3 of 5"
    stage.focus()
    page.keyboard.press("ArrowDown")
    assert note.inner_text().startswith("4 of 5") or note.text_content() == "3 of 5"
    until(page, "document.querySelector('.stage .note').textContent.startsWith('4 of 5')")
    stage.hover()
    page.mouse.wheel(0, 120)
    until(page, "document.querySelector('.stage .note').textContent.startsWith('5 of 5')")
    page.keyboard.press("Home")
    until(page, "document.querySelector('.stage .note').textContent.startsWith('1 of 5')")
    page.select_option(".tools select >> nth=1", "bone")
    until(page, "document.querySelector('.stage img').src.includes('window=300%2C1500')")
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down(button="right")
    page.mouse.move(box["x"] + 150, box["y"] + 120, steps=3)
    page.mouse.up(button="right")
    until(page, "document.querySelector('.stage img').src.includes('window=340%2C1600')")
    page.keyboard.press("+")
    assert "scale(1.25)" in page.locator(".stage img >> nth=0").evaluate("image => image.style.transform")
    page.keyboard.press("0")
    assert "scale(1)" in page.locator(".stage img >> nth=0").evaluate("image => image.style.transform")


def test_scores_name_their_bundle_and_what_they_are_not(page: Any, study: str) -> None:
    opened(page, study)
    card = page.locator("section", has_text="What the encoder says")
    card.locator(".score").first.wait_for()
    said = card.inner_text()
    assert "The scores are not calibrated" in said
    assert "By eyes (int8)" in said
    assert "parity: passed" in said
    overlay, where = page.locator(".stage img >> nth=1"), card.get_by_role("button", name="Where").first
    where.click()
    overlay.wait_for()
    where.click()
    overlay.wait_for(state="hidden")
    page.route("**/map?*", lambda route: route.fulfill(status=404, body="{}"))  # of a bundle that was exported without
    where.click()
    page.get_by_text("This bundle cannot show where.").wait_for()
    page.get_by_role("button", name="Find similar").click()
    page.locator(".near a").first.wait_for()


def test_a_name_from_a_file_stays_text(page: Any, study: str) -> None:
    page.locator("td.patient", has_text="<script>alert(1)</script>").first.wait_for()
    opened(page, study)
    assert "Ha, <script>alert(1)</script>" in page.locator("h1").first.inner_text()
    assert page.locator("main script").count() == 0


def test_a_report_is_written_signed_released_and_reopened(page: Any, served: Running, study: str) -> None:
    opened(page, study)
    card = page.locator("section.card", has=page.locator("textarea"))
    card.locator("textarea").fill("Findings\nNo fracture.\n\nImpression\nNormal.")
    card.get_by_role("button", name="Sign").click()
    page.get_by_text("Write your name before you sign.").wait_for()
    card.get_by_label("Your name").fill("A. Reader")
    card.get_by_role("button", name="Sign").click()
    card.get_by_text("Signed by A. Reader").first.wait_for()
    assert card.locator("textarea").evaluate("area => area.readOnly")
    page.emulate_media(media="print")
    paper = page.locator(".printed")
    assert paper.is_visible()
    assert not page.locator("header").is_visible()
    for words in ("No fracture.", "Signed by A. Reader", "Not a medical device."):
        assert words in paper.inner_text()
    page.emulate_media(media="screen")
    card.get_by_role("button", name="Release").click()
    card.locator(".mark.released").wait_for()
    uid = study.rpartition("/")[2]
    report = served.get(f"/v1/studies/{uid}/report")
    assert (report["state"], report["signed_by"]) == ("released", "A. Reader")
    card.get_by_role("button", name="Reopen").click()
    card.locator(".mark.draft").wait_for()
    assert not card.locator("textarea").evaluate("area => area.readOnly")


def test_somebody_elses_report_is_not_written_over(page: Any, served: Running, study: str) -> None:
    opened(page, study)
    uid = study.rpartition("/")[2]
    area = page.locator("textarea")
    area.fill("Mine.")
    page.evaluate(
        "async ([path, version]) => fetch(path, {method: 'PUT', headers: {'Content-Type': 'application/json'}, "
        "body: JSON.stringify({text: 'Theirs.', version})})",
        [f"/v1/studies/{uid}/report", served.get(f"/v1/studies/{uid}/report")["version"]],
    )
    page.get_by_text("Somebody else has changed the report.").wait_for()
    assert area.input_value() == "Mine."
    page.get_by_role("button", name="Save").click()
    page.locator("section.card .error", has_text="version").wait_for()
    assert served.get(f"/v1/studies/{uid}/report")["text"] == "Theirs."
    # Whoever leaves is asked first, and may stay; then it is theirs to choose which text is kept.
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("link", name="Record").click()
    until(page, "location.hash.startsWith('#/study/')")
    assert area.input_value() == "Mine."
    page.get_by_role("button", name="Keep my text").click()
    page.get_by_role("button", name="Save").click()
    until(page, f"fetch('/v1/studies/{uid}/report').then(one => one.json()).then(one => one.text === 'Mine.')")


def test_a_question_is_answered_as_it_comes_and_can_be_stopped(page: Any, study: str) -> None:
    opened(page, study)
    page.get_by_role("link", name="Ask about this picture").click()
    page.locator(".asked img").wait_for()
    page.locator("textarea").fill("What is this?")
    page.get_by_role("button", name="Ask", exact=True).click()
    until(page, "document.querySelector('.turn.answer')?.textContent.length > 10", 120)
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()
    page.get_by_text("By reader (f16)").wait_for()
    length = page.locator(".turn.answer").inner_text()
    page.wait_for_timeout(500)
    assert page.locator(".turn.answer").inner_text() == length


def test_a_record_is_asked_and_its_sources_are_a_click_away(page: Any, tmp_path: Path) -> None:
    resource = {
        "resourceType": "Condition",
        "id": "c1",
        "code": {"text": "Asthma"},
        "subject": {"reference": "Patient/p"},
    }
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [
        {"resource": {"resourceType": "Patient", "id": "p", "gender": "female"}}, {"resource": resource}]}  # fmt: skip
    path = tmp_path / "record.json"
    path.write_text(json.dumps(bundle))
    opened(page, "#/record")
    page.set_input_files("input[type=file]", path)
    page.get_by_text("Resources: 2.").wait_for()
    page.locator("textarea").fill("Which illness?")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text("Cited resources").wait_for(timeout=120_000)
    sources = page.locator("section.card details")
    if sources.count():  # a model of random weights cites what it likes
        sources.first.locator("summary").click()
        assert sources.first.locator("pre").is_visible()
    page.set_input_files("input[type=file]", Path(__file__))
    page.get_by_text("This file is no JSON.").wait_for()


def test_a_language_is_chosen_and_kept(page: Any) -> None:
    page.select_option("#top select", "fr")
    page.get_by_role("heading", name="Examens").wait_for()
    assert page.evaluate("document.documentElement.lang") == "fr"
    page.reload()
    page.get_by_role("heading", name="Examens").wait_for()
    page.select_option("#top select", "sw")
    page.get_by_text("Hiki si kifaa cha kitabibu.").wait_for()


def test_history_says_who_did_what(page: Any, study: str) -> None:
    opened(page, "#/history")
    page.locator("td", has_text="sent a study").first.wait_for()
    page.select_option("#top select", "pt")
    page.locator("td", has_text="enviou um exame").first.wait_for()
    sentences = json.loads((Path(serve.__file__).parent / "words" / "pt.json").read_text())
    known = {sentence for key, sentence in sentences.items() if key.startswith("action.")}
    told = set(page.locator("tbody td:nth-child(3)").all_inner_texts())
    assert {"enviou um exame", "avaliou o exame"} <= told <= known


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_people_out_and_nothing_is_cut_off(
    browser: Any, served: Running, study: str, scheme: str
) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: bash .ci/browser")
    context = browser.new_context(color_scheme=scheme, locale="en-GB")
    page = context.new_page()
    page.goto(served.told["url"])
    for view in VIEWS:
        opened(page, study if view == "study" else view)
        page.wait_for_timeout(300)
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (view, width)
        page.evaluate(AXE.read_text())
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        told = [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found]
        assert told == [], view
    context.close()
