"""Files given to the page, one or several: what is shown of each, other windows, and what is printed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from encoder_page import agrees, dicom, done, give, table
from tolerances import WEB_SCORES

import medge
from medge.runtime.pictures.images import read_image
from medge.runtime.pictures.view import CT_WINDOWS, View


def test_several_files_their_view_and_their_print(
    page: Any, web_bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    """As a CD has them, without endings; one that can't be read costs its own result and no other."""
    ct, multi, notes = (tmp_path / name for name in ("IM0001", "IM0003", "IM0002"))
    shutil.copyfile(dicom("CT_small.dcm"), ct)
    shutil.copyfile(dicom("SC_rgb_rle_2frame.dcm"), multi)
    notes.write_text("no image")
    encoder, bound = medge.load_encoder(web_bundles("int8"), device="cpu"), WEB_SCORES["int8"]
    assert give(page, ct, notes, multi) == "Done: 2 of 3 files; 1 could not be read."
    first, second, third = (page.locator(".result").nth(index) for index in range(3))
    assert "no image that the browser can read" in second.locator(".problem").inner_text()
    assert second.locator(".scores").is_hidden()
    assert agrees(table(first), encoder.classify(read_image(ct))[0], bound)
    assert agrees(table(third), encoder.classify(read_image(multi))[0], bound)

    # The original, at its full size, beside the square.
    assert first.locator(".original .words").inner_text().startswith("128 × 128 pixels, window centre ")
    assert first.locator(".original img").evaluate("image => image.naturalWidth") == 128
    assert first.locator("canvas").evaluate("canvas => canvas.width") == encoder.manifest.encoder.image_size
    first.locator(".viewer").press("1")
    assert first.locator("output").inner_text() == "100 %"
    first.get_by_label("Zoom in").click()
    assert first.locator(".original img").evaluate("image => image.getBoundingClientRect().width") == pytest.approx(192)

    # Another window and another frame are other scores.
    chosen = choose(page, first.get_by_label("Window"), "lung")
    assert "window centre -600, width 1500" in chosen
    assert agrees(table(first), encoder.classify(read_image(ct, View.of(window="lung")))[0], bound)
    assert "width 2064 (all values)" in choose(page, first.get_by_label("Window"), "range")
    assert agrees(table(first), encoder.classify(read_image(ct, View(window=(136, 2064))))[0], bound)
    first.get_by_label("Centre").fill("40")
    first.get_by_label("Width", exact=True).fill("0")  # while the scores of the new centre are computed
    first.get_by_label("Width", exact=True).blur()
    done(page)
    assert "greater than 0" in first.get_by_label("Width", exact=True).evaluate("field => field.validationMessage")

    # On paper: a page for each that could be read, or one alone, with what it is and without controls.
    assert page.pdf(format="A4").count(b"/Type /Page\n") == 2
    page.emulate_media(media="print")
    assert first.locator(".facts").inner_text().startswith(f"{encoder.manifest.name}, ")
    assert "Parity with the original model: passed" in first.locator(".facts").inner_text()
    assert first.locator(".paper").is_visible()
    assert not any(page.locator(hidden).first.is_visible() for hidden in ("#drop", ".tools", ".view", "button"))
    page.emulate_media(media="null")  # as it was: "screen" would hold for the PDF as well
    page.evaluate("window.print = () => {}")
    first.get_by_role("button", name="Print this result").click()
    assert page.pdf(format="A4").count(b"/Type /Page\n") == 1
    page.evaluate("dispatchEvent(new Event('afterprint'))")


def test_a_folder_is_dropped(page: Any, tmp_path: Path) -> None:
    (tmp_path / "CD" / "DICOM").mkdir(parents=True)
    for number in (10, 9):
        shutil.copyfile(dicom("CT_small.dcm"), tmp_path / "CD" / "DICOM" / f"IM{number}")
    page.evaluate("document.getElementById('status').textContent = ''")
    devtools = page.context.new_cdp_session(page)
    dragged = {"items": [], "files": [str(tmp_path / "CD")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 60, "y": 60, "data": dragged})
    assert done(page) == "Done: 2 of 2 files."
    names = [words.partition(":")[0] for words in page.locator(".result h2").all_inner_texts()]
    assert names == ["CD/DICOM/IM9", "CD/DICOM/IM10"]


def choose(page: Any, field: Any, option: str) -> str:
    """Choose from a list, wait for the scores: what the caption says then."""
    page.evaluate("document.getElementById('status').textContent = ''")
    field.select_option(option)
    done(page)
    return str(page.locator(".original .words").first.inner_text())


def test_windows_have_the_command_line_s_names(page: Any) -> None:
    found = page.evaluate("import('./app/view_form.js').then(({ CT_WINDOWS }) => CT_WINDOWS)")
    assert {name: tuple(values) for name, values in found.items()} == CT_WINDOWS


def test_a_file_that_is_no_image(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    page.set_input_files("#file", tmp_path / "notes.txt")
    page.wait_for_function("document.getElementById('status').classList.contains('error')")
    assert "no image that the browser can read" in page.text_content("#status")
    assert page.is_hidden(".result .scores")
