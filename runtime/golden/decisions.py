"""What calibrated scores must say in every language: made-up calibrations and images, with this runtime's decisions.

The page, Kotlin and Swift reproduce them in their tests; tests/golden/decisions.json holds what this file makes.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from ..decisions.calibration import ScoreCalibration
from ..decisions.density import Density
from ..decisions.facts import Form, Kind, OperatingPoint, ScoreFacts, Wanted

SIZE = 6  # numbers of an embedding
LABELS = ("pneumonia", "clear lungs", "2", "malignant", "benign")  # a program may take "2" for a place in a list
SCALE, BIAS = 16.0, -2.0  # with a cosine of 1/8 the logit is 0, and the probability of a finding 1/2, to the bit


@dataclass(frozen=True)
class Image:
    """An image to decide on.

    Attributes:
        name: what is special about it.
        embedding: of unit length, to four digits.
        cosines: to the labels; None where it is scored for other labels than those that were calibrated.
    """

    name: str
    embedding: tuple[float, ...]
    cosines: tuple[float, ...] | None


def golden_decisions() -> dict[str, Any]:
    """Everything of decisions.json.

    Returns:
        `cases`, each with the bytes of a file of scores in base64, `logit_scale`, `logit_bias` and images with their decisions,
        and `refused`, files that a reader must refuse. Embeddings and cosines are to be read as float32.
    """
    cases = [
        _case("one label an image", _drawn("one label", 1), _images(1)),
        _case("findings", _drawn("findings", 2), _images(2)),
        _case("values that are equal to thresholds", _ties(), TIES),
        _case("one kind without a name, and no limit", _plain(), _images(3)),
    ]
    return {"cases": cases, "refused": [{"name": name, "scores": _base64(file)} for name, file in _refused()]}


def write_decisions(path: Path) -> None:
    """Write `golden_decisions` as JSON, one image or file a line, so that a difference can be read."""
    golden = golden_decisions()

    def lines(rows: list[Any]) -> str:
        return ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)

    cases = []
    for case in golden["cases"]:
        facts = {name: value for name, value in case.items() if name != "images"}
        cases.append(f'{json.dumps(facts, ensure_ascii=False)[:-1]}, "images": [\n{lines(case["images"])}]}}')
    together = ",\n".join(cases)
    path.write_text(f'{{"cases": [\n{together}],\n"refused": [\n{lines(golden["refused"])}]}}\n', encoding="utf-8")


def _case(name: str, calibration: ScoreCalibration, images: Sequence[Image]) -> dict[str, Any]:
    rows = []
    for image in images:
        embedding = np.array([image.embedding], np.float32)
        cosines = None if image.cosines is None else np.array([image.cosines], np.float32)
        logits = None if cosines is None else cosines.astype(np.float64) * SCALE + BIAS
        [decision] = calibration.decide(embedding, logits)
        rows.append({
            "name": image.name, "embedding": image.embedding, "cosines": image.cosines, "decision": asdict(decision),
        })  # fmt: skip
    file = _base64(calibration.to_bytes())
    return {"name": name, "scores": file, "logit_scale": SCALE, "logit_bias": BIAS, "images": rows}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _point(absent_below: float | None, present_above: float | None) -> OperatingPoint:
    return OperatingPoint(absent_below, present_above, 50, 50)


def _facts(
    form: Form, kinds: tuple[Kind, ...], centres: tuple[int, ...], limit: float | None, labels: tuple[str, ...] = LABELS
) -> ScoreFacts:  # fmt: skip
    return ScoreFacts(
        form, labels, kinds, centres, limit, Wanted(), "golden/eval-tf", "0" * 64, "made up", 400, 0,
    )  # fmt: skip


def _drawn(form: Form, seed: int) -> ScoreCalibration:
    """Two kinds of picture: labels of one alone, of both, and with one threshold, the other, or none."""
    rng = random.Random(seed)
    one = form == "one label"
    slopes = [(0.3,) * 5, (0.7,) * 5] if one else [(0.3, 0.5, 0.7, 1.0, 40.0), (1.0, 0.2, 0.4, 0.5, 0.6)]
    offsets = [(0.0,) * 5] * 2 if one else [(0.2, -0.5, 1.0, 0.0, -3.0), (-1.0, 0.5, 0.0, 0.25, -0.25)]
    chest = (_point(0.15, 0.4), _point(0.2, 0.2), _point(None, 0.3), None, None)
    breast = (None, _point(None, None), _point(0.1, None), _point(0.25, 0.5), _point(0.3, 0.35))
    kinds = (
        Kind("chest film", 200, slopes[0], offsets[0], chest, 0.2 if one else None),
        Kind("échographie du sein", 200, slopes[1], offsets[1], breast, 0.35 if one else None),
    )
    whitening = [
        [(3.0 if row == column else 0.0) + rng.uniform(-1, 1) for column in range(SIZE)] for row in range(SIZE)
    ]
    centres = [[rng.uniform(-2, 2) for _ in range(SIZE)] for _ in range(4)]
    return ScoreCalibration(_facts(form, kinds, (0, 0, 1, 1), 3.5), _density(whitening, centres))


def _density(whitening: list[list[float]], centres: list[list[float]]) -> Density:
    return Density(np.array(whitening, np.float32), np.array(centres, np.float32))


def _images(seed: int) -> list[Image]:
    rng = random.Random(100 + seed)
    drawn = []
    for number in range(16):
        row = [rng.uniform(-1, 1) for _ in range(SIZE)]
        length = sum(value**2 for value in row) ** 0.5
        cosines = None if number % 8 == 7 else tuple(round(rng.uniform(0, 0.4), 4) for _ in LABELS)
        name = f"{number}" if cosines else f"{number}, scored for other labels"
        drawn.append(Image(name, tuple(round(value / length, 4) for value in row), cosines))
    extreme = (1.0, -1.0, 1.0, -1.0, 1.0)  # the exponential of their logits must not overflow
    return [*drawn, dataclasses.replace(drawn[0], name="cosines of 1 and -1", cosines=extreme)]


_X, _Y = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
_HALF = 0.125  # the cosine of a logit of 0
TIES = (
    Image("as far as the limit, and shares of a half as all thresholds", _X, (_HALF, _HALF, -9.0, -9.0, -9.0)),
    Image("as near to two centres: the first counts", (0.0,) * 5 + (1.0,), (_HALF,) * 5),
    Image("at a centre: distance 0", _Y, (_HALF, -9.0, _HALF, -9.0, -9.0)),
    Image("beyond the limit", (-1.0, 0.0, 0.0, 0.0, 0.0, 0.0), (_HALF, 1.0, _HALF, -9.0, -9.0)),
)


def _ties() -> ScoreCalibration:
    """All numbers are exact in double precision, so that a comparison that is off by equality gives another decision."""
    first = (_point(0.5, 0.5), _point(0.5, 0.75), _point(0.25, 0.5), _point(0.0, 1.0), None)
    second = (_point(0.5, None), None, _point(None, 0.5), _point(None, None), None)
    kinds = (
        Kind("first", 100, (1.0,) * 5, (0.0,) * 5, first, 0.5),
        Kind("second", 100, (0.5,) * 5, (0.0,) * 5, second, 0.5),
    )
    identity = [[float(row == column) for column in range(SIZE)] for row in range(SIZE)]
    # From _X, the first is 1.25 away, by 0.75 and 1; all others are farther.
    centres = [
        [1.0, 0.0, 0.75, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0, 1.0],
        [0.0, 0.0, 1.0, 0.0, 0.0, 1.0],
    ]  # fmt: skip
    return ScoreCalibration(_facts("one label", kinds, (0, 1, 0, 1), 1.25), _density(identity, centres))


def _plain() -> ScoreCalibration:
    points = (_point(0.1, 0.3), _point(0.05, 0.6), _point(0.2, 0.2), None, _point(None, 0.5))
    kind = Kind("", 100, (0.5,) * 5, (0.0,) * 5, points)
    rng = random.Random(3)
    whitening = [
        [(50.0 if row == column else 0.0) + rng.uniform(-9, 9) for column in range(SIZE)] for row in range(SIZE)
    ]
    return ScoreCalibration(_facts("one label", (kind,), (0,), None), _density(whitening, [[0.0] * SIZE]))


def _refused() -> list[tuple[str, bytes]]:
    """Files that a reader must refuse, whatever the language: (what is wrong, its bytes)."""
    kind = Kind("", 100, (1.0, 1.0), (0.0, 0.0), (_point(0.25, 0.75), None))
    identity = np.eye(SIZE, dtype=np.float32)
    good = ScoreCalibration(
        _facts("one label", (kind, kind), (0, 1), None, LABELS[:2]), Density(identity, identity[:2])
    )
    facts = good.facts

    def changed(**fields: Any) -> bytes:
        return dataclasses.replace(good, facts=dataclasses.replace(facts, **fields)).to_bytes()

    def of_kind(**fields: Any) -> bytes:
        return changed(kinds=(dataclasses.replace(kind, **fields), kind))

    def density(whitening: NDArray[np.float32], centres: NDArray[np.float32]) -> bytes:
        return dataclasses.replace(good, density=Density(whitening, centres)).to_bytes()

    whitening, centres = good.density.whitening, good.density.centres
    return [
        ("a later format", changed(format=2)),
        ("a form that is not known", changed(form="several labels")),
        ("no labels", changed(labels=(), kinds=(dataclasses.replace(kind, slopes=(), offsets=(), points=()),), centres=(0, 0))),
        ("no kinds", changed(kinds=())),
        ("centres that the facts don't name", changed(centres=(0,))),
        ("a centre of a kind that is not there", changed(centres=(0, 2))),
        ("a centre of a kind before the first", changed(centres=(0, -1))),
        ("too few slopes", of_kind(slopes=(1.0,))),
        ("too few offsets", of_kind(offsets=(0.0,))),
        ("too few points", of_kind(points=kind.points[1:])),
        ("both present and absent", of_kind(points=(_point(0.75, 0.25), None))),
        ("a threshold above 1", of_kind(points=(_point(0.5, 1.5), None))),
        ("a slope below 0", of_kind(slopes=(-1.0, 1.0))),
        ("one label an image, and none in a kind", of_kind(points=(None, None))),
        ("embeddings of another size", density(np.eye(SIZE + 1, dtype=np.float32), np.zeros((2, SIZE + 1), np.float32))),
        ("a whitening that is not square", density(whitening[1:], centres)),
        ("centres of another size", density(whitening, centres[:, 1:])),
        ("a value that is no finite number", density(np.where(whitening == 1, np.float32(np.inf), whitening), centres)),
        ("no facts", save({"whitening": whitening, "centres": centres})),
        ("no tensors", save({"other": centres}, {"facts": json.dumps(asdict(facts))})),
        ("a file that is cut off", good.to_bytes()[:-8]),
        ("nothing", b""),
    ]  # fmt: skip
