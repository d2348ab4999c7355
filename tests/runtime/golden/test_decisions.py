"""The golden decisions are what Python says now, and hold every kind of answer that another language must give."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from medge.runtime.decisions.calibration import ScoreCalibration
from medge.runtime.errors import BundleError
from medge.runtime.golden.decisions import SIZE, golden_decisions, write_decisions

GOLDEN = Path(__file__).parents[2] / "golden/decisions.json"


def alike(found: Any, expected: Any, where: str = "") -> None:
    """Everything is equal, and numbers to the last digits, which differ between machines' exponentials."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name, value in expected.items():
            alike(found[name], value, f"{where}.{name}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for place, value in enumerate(expected):
            alike(found[place], value, f"{where}[{place}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-300), where
    else:
        assert found == expected, where


def test_the_file_is_what_python_says_now() -> None:
    """After a wanted change: MEDGE_BLESS=1 pytest tests/runtime/golden, and read the difference before committing it."""
    made = golden_decisions()
    if os.environ.get("MEDGE_BLESS"):
        write_decisions(GOLDEN)
    alike(made, json.loads(GOLDEN.read_text(encoding="utf-8")))


def test_every_answer_is_among_them() -> None:
    cases = golden_decisions()["cases"]
    decisions = [image["decision"] for case in cases for image in case["images"]]
    for case in cases[:2]:
        mine = [image["decision"] for image in case["images"]]
        assert {decision["unlike"] for decision in mine} == {True, False}
        assert len({decision["kind"] for decision in mine}) == 2
        said = {finding["says"] for decision in mine if not decision["unlike"] for finding in decision["findings"]}
        assert said == {"present", "absent", "uncertain", "not calibrated"}
    assert any(decision["findings"] == () for decision in decisions)
    likely = {None if decision["likely"] is None else len(decision["likely"]) for decision in decisions}
    assert {None, 0, 1, 2} <= likely
    ties = [image["decision"] for image in cases[2]["images"]]
    assert [decision["unlike"] for decision in ties] == [False, False, False, True]
    assert ties[0]["distance"] == 1.25
    assert [finding["probability"] for finding in ties[0]["findings"][:2]] == [0.5, 0.5]
    assert [finding["says"] for finding in ties[0]["findings"][:2]] == ["uncertain", "uncertain"]
    assert ties[0]["likely"] == ("pneumonia", "clear lungs")
    assert (ties[1]["kind"], ties[2]["kind"], ties[2]["distance"]) == ("first", "second", 0)


@pytest.mark.parametrize("refused", golden_decisions()["refused"], ids=lambda refused: refused["name"])
def test_files_that_every_language_refuses(refused: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "scores.safetensors"
    path.write_bytes(base64.b64decode(refused["scores"]))
    with pytest.raises(BundleError, match="no calibration of scores"):
        ScoreCalibration.load(path, SIZE)


def test_files_that_every_language_reads(tmp_path: Path) -> None:
    path = tmp_path / "scores.safetensors"
    for case in golden_decisions()["cases"]:
        path.write_bytes(base64.b64decode(case["scores"]))
        assert ScoreCalibration.load(path, SIZE).to_bytes() == path.read_bytes()
