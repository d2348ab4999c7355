"""The sample app of docs/guides/apple.md: compiled as it stands on the page, and run with stubs that draw in words."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from colours import Colours, write_package
from numpy.typing import NDArray
from swift_compiler import STUBS, Swift

from medge.runtime.decisions.calibration import ScoreCalibration
from medge.runtime.decisions.density import Density
from medge.runtime.decisions.facts import Kind, OperatingPoint, ScoreFacts, Wanted

ROOT = Path(__file__).parents[2]
LABELS = ("red", "blue", "green")
EMBEDDINGS = np.array([[1, 0, 0], [0, 0.6, 0.8], [0, 1, 0]], np.float32)
ENCODER = Colours(label_bank=SimpleNamespace(names=LABELS, embeddings=EMBEDDINGS))
SAID = {
    e.get("name"): e.text
    for e in ElementTree.parse(ROOT / "android_demo/app/src/main/res/values/strings.xml").getroot()
}  # on the other phone, and so on this one
LAST = [f"[{SAID['open_picture']}]", SAID["not_a_device"]]


def picture(*colour: int) -> NDArray[np.uint8]:
    """One colour with some noise, (40, 60, 3): no two rows, columns or channels can be mistaken for each other."""
    noise = np.random.default_rng(sum(colour)).integers(0, 20, (40, 60, 3))
    return (np.array(colour) + noise).astype(np.uint8)


RED, ORANGE, SEA, GREEN = picture(230, 20, 20), picture(200, 90, 20), picture(10, 100, 200), picture(5, 90, 5)
GREY = np.repeat(picture(120, 120, 120)[..., :1], 3, axis=2)


def write_picture(path: Path, pixels: NDArray[np.uint8], channels: int = 3) -> Path:
    """A file as the stub of ImageIO reads it."""
    height, width, _ = pixels.shape
    path.write_bytes(bytes([width, height, channels]) + np.ascontiguousarray(pixels[..., :channels]).tobytes())
    return path


def calibration() -> ScoreCalibration:
    """Thresholds for red and blue, none for green; what is green is far from both centres."""
    points = (OperatingPoint(0.3, 0.6, 50, 50), OperatingPoint(0.3, 0.6, 50, 50), None)
    kind = Kind("colour", 200, (1.0, 1.2, 1.0), (0.1, -0.2, 0.0), points)
    belongs = ("MedgeVision palette4", "0" * 64, "made up", 400, 0)
    facts = ScoreFacts("findings", LABELS, (kind,), (0, 0), 4.0, Wanted(), *belongs)
    whitening = 4 * np.eye(3, dtype=np.float32)
    return ScoreCalibration(facts, Density(whitening, whitening[[0, 2]]))


@pytest.fixture(scope="module")
def app(swift: Swift, modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's program, with the files beside it that Xcode would put into the app."""
    pages = {page: page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md")}
    found = {page: re.findall(r"^```swift\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for page, text in pages.items()}
    [code] = found.pop(ROOT / "docs/guides/apple.md")
    assert not any(found.values()), "a page has Swift that is not compiled here"
    sources = tmp_path_factory.mktemp("sources")
    (sources / "Sample.swift").write_text(code, encoding="utf-8")
    folder = tmp_path_factory.mktemp("app") / "app"
    shutil.copytree(modules, folder)
    swift.compile(folder, "Sample", sources, "-swift-version", "6", "-o", "sample", uses=[*STUBS, "MedgeKit"])
    write_package(ENCODER, folder)
    (folder / "coreml/bank.json").rename(folder / "bank.json")
    (folder / "MedgeVision.mlmodelc").mkdir()
    return folder


def run(swift: Swift, app: Path, *pictures: Path) -> list[list[str]]:
    """What stands on the screen when the app starts, and after each picture."""
    for path in pictures:
        path.rename(app / path.name)
    done = swift.run(app, "./sample", *(path.name for path in pictures))
    assert done.returncode == 0, done.stdout[-6000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_calibrated_scores_are_said_as_python_says_them(swift: Swift, app: Path, tmp_path: Path) -> None:
    (app / "package.scores.safetensors").write_bytes(calibration().to_bytes())
    shown = {"red": RED, "orange": ORANGE, "sea": SEA, "green": GREEN}
    start, *screens = run(swift, app, *(write_picture(tmp_path / name, pixels) for name, pixels in shown.items()))
    assert start == [SAID["no_picture"], *LAST]
    words = set()
    for pixels, screen in zip(shown.values(), screens, strict=True):
        embedding = ENCODER.embed(pixels)
        [decision] = calibration().decide(embedding[None], ENCODER.logits(embedding)[None])
        lines = [
            f"{f.label}: {f.says}" + ("" if f.probability is None else f", {f.probability:.0%}")
            for f in decision.findings
        ]
        words |= {"unlike"} if decision.unlike else {finding.says for finding in decision.findings}
        assert screen == [SAID["picture_label"], *([SAID["decision_unlike"]] if decision.unlike else lines), *LAST]
    assert words == {"present", "absent", "uncertain", "not calibrated", "unlike"}


def test_scores_that_are_not_calibrated_are_called_so(swift: Swift, app: Path, tmp_path: Path) -> None:
    (app / "package.scores.safetensors").unlink(missing_ok=True)
    files = [write_picture(tmp_path / "sea", SEA), write_picture(tmp_path / "grey", GREY, channels=1)]
    _, *screens = run(swift, app, *files)
    for pixels, screen in zip((SEA, GREY), screens, strict=True):
        powers = np.exp(ENCODER.logits(ENCODER.embed(pixels)))
        ranked = sorted(zip(powers / powers.sum(), LABELS, strict=True), key=lambda pair: -pair[0])
        assert screen == [
            SAID["picture_label"],
            SAID["decision_none"],
            *(f"{label}: {share:.0%}" for share, label in ranked),
            *LAST,
        ]


def test_what_is_wrong_is_said(swift: Swift, app: Path, tmp_path: Path) -> None:
    """A file that is no picture, after one that is: nothing of the first is left on the screen."""
    (app / "package.scores.safetensors").write_bytes(calibration().to_bytes())
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"no picture")
    _, good, bad = run(swift, app, write_picture(tmp_path / "red", RED), damaged)
    assert good[0] == SAID["picture_label"]
    [reason, *rest] = bad
    assert rest == LAST
    assert len(reason) > 10
    other = dataclasses.replace(calibration().facts, fingerprint="MedgeVision w8")
    (app / "package.scores.safetensors").write_bytes(dataclasses.replace(calibration(), facts=other).to_bytes())
    _, refused = run(swift, app, write_picture(tmp_path / "red", RED))
    assert refused == [
        "The calibration was fitted to other scores or labels; its thresholds would be wrong here.",
        *LAST,
    ]
