"""The Android demo's screens, drawn by layoutlib: what is on them is judged, and compared with pictures that were looked at.

`android_demo/ci/screens/prepare` builds what draws; without that, these tests are skipped. `make screens` judges every state in
every look.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scripts import load_script

DEMO = Path(__file__).parents[2] / "android_demo"
screens = load_script(DEMO / "ci/screens/screens.py")
needs_layoutlib = pytest.mark.skipif(
    not (screens.LAYOUTLIB / "made-by").is_file() or not (screens.build.TOOLS / "python").is_dir(),
    reason=f"no layoutlib in {screens.LAYOUTLIB}: bash android_demo/ci/screens/prepare {screens.build.TOOLS}",
)


@pytest.fixture(scope="session")
def stage(core: Path, work: Path) -> list[Path]:
    """Classes of the app and of the program that draws it."""
    classes = screens.build.compile_app(work / "app", core)
    return [screens.compile_stage(classes, work / "stage"), *classes]


@pytest.fixture(scope="session")
def drawn(stage: list[Path], work: Path) -> Path:
    screens.draw(stage, screens.FEW, work / "drawn")
    return work / "drawn"


@needs_layoutlib
@pytest.mark.parametrize("name", screens.FEW)
def test_a_screen_can_be_read_touched_and_heard(name: str, drawn: Path) -> None:
    assert screens.faults(screens.Drawing.read(drawn, name)) == []


@needs_layoutlib
@pytest.mark.parametrize("name", screens.KEPT)
def test_a_screen_looks_as_it_did_when_it_was_looked_at(name: str, drawn: Path) -> None:
    difference = screens.differs(screens.GOLDEN / f"{name}.png", screens.small(drawn, name))
    if difference:
        shutil.copy(drawn / f"{name}.png", Path.cwd() / f"{name}.differs.png")
    assert difference == "", "look at the picture beside this, then: screens.py bless"


@needs_layoutlib
def test_states_differ_from_each_other(drawn: Path) -> None:
    looks = [screens.small(drawn, f"{state}-{screens.USUAL}").tobytes() for state in screens.STATES]
    assert len(set(looks)) == len(looks)


def test_pictures_are_kept_of_what_is_drawn_and_take_little_room() -> None:
    assert set(screens.KEPT) <= set(screens.FEW)
    assert {path.stem for path in screens.GOLDEN.glob("*.png")} == set(screens.KEPT)
    assert sum(path.stat().st_size for path in screens.GOLDEN.glob("*.png")) < 500_000
    assert screens.SHEET.stat().st_size < 200_000


# The judge itself


def view(kind: str, box: tuple[float, ...], parent: int = 0, **facts: Any) -> dict[str, Any]:
    plain = {"id": None, "clickable": kind in screens.CONTROLS, "enabled": True, "silent": False, "description": None}
    return {"kind": kind, "parent": parent, "box": list(box), "seen": list(box), **plain, **facts}


ROOT = view("group", (0, 0, 100, 200), parent=-1)
NOTICE = view("text", (0, 0, 100, 20), id="notice", text="No device", cut=False, lines=1)
GOOD = view("button", (0, 20, 100, 70), id="open", text="Open", cut=False, lines=1)


def judged(*views: dict[str, Any], ink: int = 0) -> list[str]:
    """What is found in a white picture with strokes of a grey in each view."""
    picture = np.full((400, 200, 3), 255, np.uint8)
    for one in views:
        left, top, right, bottom = (int(2 * side) for side in one["seen"])
        picture[(top + bottom) // 2, left + 8 : max(left + 9, right - 8)] = ink
    drawing = screens.Drawing("empty-100x200-light-en-1.0", [ROOT, *views], [ROOT, *views], picture)
    found: list[str] = screens.faults(drawing)
    return found


def test_a_good_screen_has_no_faults() -> None:
    assert judged(NOTICE, GOOD) == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"cut": True}, "is cut"),
        ({"wordBroken": True}, "breaks a word"),
        ({"lines": 2}, "wraps into 2 lines"),
        ({"seen": [0, 20, 100, 60]}, "100 x 40 dp, too small"),
        ({"text": ""}, "says nothing to a screen reader"),
        ({"box": [-4, 20, 96, 70]}, "beyond the side"),
        ({"box": [0, 15, 100, 70], "seen": [0, 15, 100, 70]}, "overlaps"),
        ({"box": [0, 15, 100, 70], "seen": [0, 15, 100, 70]}, "lies under the line"),
    ],
)
def test_each_fault_of_a_control_is_found(changed: dict[str, Any], fault: str) -> None:
    assert any(fault in found for found in judged(NOTICE, {**GOOD, **changed}))


def test_a_faint_text_a_missing_notice_and_two_primary_actions_are_found() -> None:
    assert any("contrast of 2." in found for found in judged(NOTICE, GOOD, ink=160))
    assert any("not there once" in found for found in judged(GOOD))
    second = view("button", (0, 80, 100, 130), id="open_first", text="Open", cut=False, lines=1)
    third = view("button", (0, 140, 100, 190), id="ask", text="Ask", cut=False, lines=1)
    assert any("more than one primary action" in found for found in judged(NOTICE, second, third))


def test_contrast_is_that_of_the_guidelines() -> None:
    black, white, grey = (np.array([level] * 3) for level in (0, 255, 119))
    assert float(screens.contrast(black, white)) == pytest.approx(21)
    assert float(screens.contrast(grey, white)) == pytest.approx(4.48, abs=0.005)


def test_a_changed_picture_is_told_from_a_blessed_one(tmp_path: Path) -> None:
    before = Image.new("RGB", (60, 60), (240, 240, 240))
    before.save(tmp_path / "golden.png")
    assert screens.differs(tmp_path / "golden.png", before) == ""
    moved = before.copy()
    moved.paste((11, 107, 116), (0, 0, 12, 12))
    assert "pixels" in screens.differs(tmp_path / "golden.png", moved)
    assert "instead of" in screens.differs(tmp_path / "golden.png", before.resize((50, 60)))
