"""Draw the app's screens without Android, judge what is drawn, and keep the pictures that were looked at.

    bash android_demo/ci/prepare ~/.cache/medge/android && bash android_demo/ci/screens/prepare ~/.cache/medge/android
    python android_demo/ci/screens/screens.py check                      # every state in every look: some minutes
    python android_demo/ci/screens/screens.py draw --out FOLDER unlike-320x480-dark-fr-1.5
    python android_demo/ci/screens/screens.py bless                      # what is drawn now is what tests compare with
    python android_demo/ci/screens/screens.py sheet                      # the contact sheet of the documentation

A drawing's name is STATE-WIDTHxHEIGHT-THEME-LANGUAGE-FONTSCALE. layoutlib draws as Android 6 does (API 23), in Java2D.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import build  # noqa: E402  (beside this folder)

LAYOUTLIB = build.TOOLS / "screens"
RESOURCES = build.DEMO / "app/src/main/res"
GOLDEN = HERE / "golden"
SHEET = build.DEMO / "docs/screens.png"
DENSITY = 2  # pixels for each dp, as in Stage.java

STATES = (
    "empty", "nomodel", "working", "unreadable", "scores", "calibrated", "uncertain", "unlike", "similar", "labels",
    "ask", "asknone", "reading", "streaming", "answered", "stopped", "hot", "lowmemory",
    "bundles", "models", "storage", "importing", "checking", "refused",
)  # fmt: skip
SIZES = ("320x480", "411x891", "891x411", "800x1280")  # small, usual, lying, tablet
LANGUAGES = ("en", "fr", "es", "pt", "sw")
NARROWEST = "320x480-dark-fr-1.5"
USUAL = "411x891-light-en-1.0"
# What every run of the tests draws: each state as most see it and where room is scarcest, and some of everything else.
FEW = (
    *(f"{state}-{look}" for look in (USUAL, NARROWEST) for state in STATES),
    "calibrated-891x411-light-fr-1.0", "similar-891x411-dark-en-1.5", "empty-891x411-light-en-1.0",
    "streaming-891x411-light-fr-1.5", "calibrated-800x1280-light-en-1.0", "models-800x1280-dark-fr-1.0",
    "calibrated-320x480-light-es-1.5", "importing-320x480-dark-pt-1.5", "unlike-411x891-dark-sw-1.0",
)  # fmt: skip
# What is kept as pictures, at half the size that is drawn.
KEPT = (
    *(f"{state}-{USUAL}" for state in STATES if state not in ("labels", "checking", "asknone")),
    f"calibrated-{NARROWEST}", f"hot-{NARROWEST}", "calibrated-891x411-light-fr-1.0", "unlike-411x891-dark-sw-1.0",
)  # fmt: skip
SHOWN = (
    f"empty-{USUAL}", f"calibrated-{USUAL}", "unlike-411x891-dark-sw-1.0", f"streaming-{USUAL}", f"importing-{USUAL}",
    f"similar-{USUAL}",
)  # fmt: skip

Box = tuple[float, float, float, float]


def every() -> list[str]:
    """Names of all states in all looks."""
    return [
        f"{state}-{size}-{theme}-{language}-{scale}"
        for size in SIZES
        for theme in ("light", "dark")
        for language in LANGUAGES
        for scale in ("1.0", "1.5")
        for state in STATES
    ]


def class_path(classes: Sequence[Path]) -> str:
    """Ours first, for they stand in for some of Android's; then layoutlib, then what the app uses."""
    return build.class_path(
        *classes, *sorted((LAYOUTLIB / "lib").glob("*.jar")), build.STDLIB, build.GSON, build.ORT, *build.JUNIT
    )


def compile_stage(classes: Sequence[Path], out: Path) -> Path:
    """The program that draws, against the app's classes."""
    sources = sorted((HERE / "java").rglob("*.java"))
    build.run("javac", "-nowarn", "-Xlint:none", "--release", "11", "-cp", class_path(classes), "-d", out, *sources)
    return out


# layoutlib's "create" drops what the verifier would look for.
JVM = (
    "-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote", "-XX:-BytecodeVerificationLocal",
    "-Djava.awt.headless=true",
)  # fmt: skip


def draw(classes: Sequence[Path], names: Sequence[str], out: Path) -> str:
    """Draw into `out`; gives what layoutlib has said. `classes` begin with `compile_stage`'s."""
    out.mkdir(parents=True, exist_ok=True)
    said = []
    for start in range(0, len(names), 200):  # a process for each two hundred: command lines and memory stay small
        part = names[start : start + 200]
        said.append(
            build.java(
                *JVM, "-Xmx1g", "-cp", class_path(classes), "org.medge.screens.Draw", LAYOUTLIB, RESOURCES, out, *part
            )
        )
    return "".join(said)


@dataclass(frozen=True)
class Drawing:
    """What was drawn of one name: the views of the screen as it stands, and of one so tall that nothing is scrolled."""

    name: str
    screen: list[dict[str, Any]]
    whole: list[dict[str, Any]]
    picture: np.ndarray  # of the tall one, (height, width, 3), 0 to 255

    @classmethod
    def read(cls, folder: Path, name: str) -> Drawing:
        facts = json.loads((folder / f"{name}.json").read_text())
        with Image.open(folder / f"{name}-whole.png") as image:
            picture = np.asarray(image.convert("RGB"))
        return cls(name, facts["screen"], facts["whole"], picture)


def faults(drawing: Drawing) -> list[str]:
    """Sentences about what is wrong with a drawing; none is what is wanted."""
    width, height = (float(side) for side in drawing.name.split("-")[1].split("x"))
    state = drawing.name.split("-")[0]
    found: list[str] = []
    for index, view in enumerate(drawing.whole):
        found += (f"{_called(view)} {fault}" for fault in _faults_of(drawing, index, view, width))
    found += _overlaps(drawing.whole)
    if state != "labels":  # the contents of a dialog
        found += _faults_of_notice(drawing.screen, width, height)
        found += _faults_of_room(drawing.screen, height)
    primary = [view["id"] for view in drawing.screen if view["id"] in PRIMARY]
    if len(primary) > 1:
        found.append(f"more than one primary action: {', '.join(primary)}")
    return found


PRIMARY = {"open_first", "ask", "import_bundle", "send", "stop"}
CONTROLS = {"button", "field", "choice", "switch"}
LEAST_TARGET = 48.0
LEAST_CONTRAST = 4.5  # of text; of symbols 3


def _called(view: dict[str, Any]) -> str:
    return f"{view['kind']} {view['id'] or ''} “{(view.get('text') or view.get('description') or '')[:40]}”"


def _faults_of(drawing: Drawing, index: int, view: dict[str, Any], width: float) -> Iterator[str]:
    left, top, right, bottom = view["seen"]
    if view["box"][0] < 0 or view["box"][2] > width:
        yield "goes beyond the side of the screen"
    if view.get("text") and view.get("cut"):
        yield "is cut"
    if view.get("wordBroken"):
        yield "breaks a word"
    if view["kind"] == "button" and view.get("lines", 1) > 1:
        yield f"wraps into {view['lines']} lines"
    if view["kind"] in CONTROLS:
        if view["clickable"] and (right - left < LEAST_TARGET or bottom - top < LEAST_TARGET):
            yield f"is {right - left:g} x {bottom - top:g} dp, too small for a finger"
        if not (view.get("text") or view["description"] or view.get("hint")):
            yield "says nothing to a screen reader"
    if view["kind"] in ("picture", "bar") and not view["silent"] and not view["description"]:
        yield "says nothing to a screen reader"
    if view["enabled"] and (view.get("text") or view.get("hint") or (view["kind"] == "button" and view.get("picture"))):
        least = LEAST_CONTRAST if "text" in view else 3.0
        ratio = _drawn_contrast(drawing.picture, view)
        if ratio < least:
            yield f"has a contrast of {ratio:.2f}:1"


def luminance(colour: np.ndarray) -> np.ndarray:
    """Relative luminance of sRGB colours (..., 3) in 0 to 255, as WCAG 2 defines it."""
    share = np.asarray(colour, dtype=np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def contrast(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """WCAG's contrast ratio of colours (..., 3)."""
    one, other = luminance(first), luminance(second)
    return (np.maximum(one, other) + 0.05) / (np.minimum(one, other) + 0.05)


def _drawn_contrast(picture: np.ndarray, view: dict[str, Any]) -> float:
    """Of the ground, the colour that most pixels of a view have, and the drawn pixel that stands out from it most."""
    left, top, right, bottom = (round(side * DENSITY) for side in view["seen"])
    inset = min(4, (right - left) // 8, (bottom - top) // 8) if view["kind"] == "button" else 0
    pixels = picture[top + inset : bottom - inset, left + inset : right - inset].reshape(-1, 3)
    packed, counts = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1]), return_counts=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1)
    ground = colours[counts.argmax()]
    # A handful of pixels may be of something else's rounded corner: strokes of text have more.
    often = colours[counts >= 3]
    return float(contrast(often, ground).max())


def _overlaps(views: list[dict[str, Any]]) -> Iterator[str]:
    children: dict[int, list[dict[str, Any]]] = {}
    for view in views:
        children.setdefault(view["parent"], []).append(view)
    for siblings in children.values():
        for place, view in enumerate(siblings):
            for other in siblings[place + 1 :]:
                if _common(view["box"], other["box"]) > 0.5:
                    yield f"{_called(view)} overlaps {_called(other)}"


def _common(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return min(width, height)


def _faults_of_notice(views: list[dict[str, Any]], width: float, height: float) -> Iterator[str]:
    notices = [index for index, view in enumerate(views) if view["id"] == "notice"]
    if len(notices) != 1:
        yield "the line that this is no medical device is not there once"
        return
    notice = views[notices[0]]
    if (
        notice["seen"] != notice["box"]
        or notice["box"][0] != 0
        or notice["box"][2] != width
        or notice["box"][3] > height
    ):
        yield "the line that this is no medical device can't be seen whole"
    above = {-1}
    index = notices[0]
    while index >= 0:
        above.add(index)
        index = views[index]["parent"]
    for place, view in enumerate(views):
        if place not in above and _common(view["seen"], notice["box"]) > 0.5:
            yield f"{_called(view)} lies under the line that this is no medical device"


def _faults_of_room(views: list[dict[str, Any]], height: float) -> Iterator[str]:
    for view in views:
        if "more" in view and view["more"] > 0 and view["seen"][3] - view["seen"][1] < min(96.0, height / 4):
            yield f"only {view['seen'][3] - view['seen'][1]:g} dp are left for what is scrolled"


def small(folder: Path, name: str) -> Image.Image:
    """The screen as it stands, one pixel for each dp."""
    with Image.open(folder / f"{name}.png") as image:
        return image.convert("RGB").reduce(DENSITY)


def differs(golden: Path, drawn: Image.Image) -> str:
    """How a drawing differs from the picture that was blessed, or "" where it does not.

    Java's text differs by hairs between its versions: a mean of 1.5 levels, and one pixel in 200 by more than 48, are let pass.
    """
    with Image.open(golden) as image:
        before = np.asarray(image.convert("RGB"), dtype=np.int16)
    now = np.asarray(drawn, dtype=np.int16)
    if before.shape != now.shape:
        return f"{now.shape} instead of {before.shape}"
    distance = np.abs(before - now).max(axis=2)
    mean, share = float(distance.mean()), float((distance > 48).mean())
    return (
        "" if mean <= 1.5 and share <= 0.005 else f"mean {mean:.2f} levels, {share:.2%} of the pixels by more than 48"
    )


def few_colours(image: Image.Image) -> Image.Image:
    """With a palette, for a picture of a few kilobytes: the 64 colours of most pixels, and 128 that are far from all of them."""
    pixels = np.asarray(image).reshape(-1, 3) @ np.array([1 << 16, 1 << 8, 1])
    packed, places, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1)
    chosen = list(np.argsort(-counts, kind="stable")[:64])
    nearest = np.min([np.abs(colours - colours[one]).sum(axis=1) for one in chosen], axis=0)
    for _ in range(min(128, len(colours) - len(chosen))):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.abs(colours - colours[chosen[-1]]).sum(axis=1))
    distances = np.stack([np.abs(colours - colours[one]).sum(axis=1) for one in chosen])
    indexed = Image.fromarray(distances.argmin(axis=0)[places].reshape(image.height, image.width).astype(np.uint8), "P")
    indexed.putpalette(colours[chosen].astype(np.uint8).tobytes())
    return indexed


def bless(folder: Path) -> None:
    """Keep what was drawn as what tests compare with."""
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.glob("*.png"):
        old.unlink()
    for name in KEPT:
        few_colours(small(folder, name)).save(GOLDEN / f"{name}.png", optimize=True)


def sheet(folder: Path) -> None:
    """One picture of some screens beside each other."""
    pictures = [small(folder, name) for name in SHOWN]
    gap, height = 12, max(picture.height for picture in pictures)
    page = Image.new("RGB", (sum(p.width + gap for p in pictures) + gap, height + 2 * gap), (208, 214, 219))
    left = gap
    for picture in pictures:
        page.paste(picture, (left, gap))
        left += picture.width + gap
    SHEET.parent.mkdir(exist_ok=True)
    shrunk = page.resize((page.width * 2 // 3, page.height * 2 // 3), Image.Resampling.LANCZOS)
    few_colours(shrunk).save(SHEET, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["check", "draw", "bless", "sheet"])
    parser.add_argument("names", nargs="*", help="drawings; all for check where none is named")
    parser.add_argument("--few", action="store_true", help="those that every run of the tests draws")
    parser.add_argument("--out", type=Path, help="keep what is drawn in this folder")
    parser.add_argument("--work", type=Path, default=Path("android-build"), help="where the app is compiled")
    arguments = parser.parse_intermixed_args()
    if not (LAYOUTLIB / "made-by").is_file():
        sys.exit(f"{LAYOUTLIB} is missing: bash {HERE / 'prepare'} {build.TOOLS}")
    every_of = {
        "check": list(FEW) if arguments.few else every(),
        "draw": list(FEW),
        "bless": list(KEPT),
        "sheet": list(SHOWN),
    }
    names = arguments.names or every_of[arguments.what]
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out or Path(scratch)
        try:
            classes = build.compile_app(arguments.work)
            classes.insert(0, compile_stage(classes, arguments.work / "stage"))
            bad = 0
            for start in range(0, len(names), 200):
                part = names[start : start + 200]
                draw(classes, part, out)
                if arguments.what == "check":
                    bad += _report(part, out, keep=arguments.out is not None)
        except build.BuildError as error:
            sys.exit(str(error))
        if arguments.what == "bless":
            bless(out)
        if arguments.what == "sheet":
            sheet(out)
        if arguments.what == "check":
            print(f"{len(names)} drawings, {bad} with faults")
            sys.exit(1 if bad else 0)


def _report(names: Sequence[str], out: Path, keep: bool) -> int:
    """Print the faults of drawings; gives how many have some, and deletes the pictures unless they are to be kept."""
    bad = 0
    for name in names:
        found = faults(Drawing.read(out, name))
        bad += bool(found)
        for fault in found:
            print(f"{name}: {fault}")
        if not keep:
            for file in out.glob(f"{name}*"):
                file.unlink()
    return bad


if __name__ == "__main__":
    main()
