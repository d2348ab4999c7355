"""Where is it? How often the strongest patch of a map lies where the label is, and what maps cost.

    python benchmarks/maps.py --bundle BUNDLE [--data ../shared/data] [--busi FOLDER] [--limit N] [--record]

BUNDLE was exported with --maps. The pointing game (Zhang et al. 2018): a picture counts as a hit when the patch with the greatest
value lies in the known place by its middle. Beside the map stand three others: occlusion (a grey square of three by three patches
over each patch in turn; the greatest loss of what the map explains), the picture's middle, and chance, the share of patches that
lie in the place. The sets:

- mosaics: four pictures of different kinds in one, the place of each kind is known exactly (Boehle et al. 2021, the grid pointing
  game). Only pictures that the bundle takes for what they are, alone, and kinds with at least four such pictures;
- polyps: boxes around polyps;
- chest findings: boxes of the NIH csv around pictures that the data folder holds (few);
- breast lesions, with --busi: the published folder of BUSI (benign/, malignant/, each with "x (1).png" and "x (1)_mask.png").

Intervals are of 95%: Wilson's, or, where a picture is asked several questions, pictures resampled as wholes. --record stores what
was run in benchmarks/results/maps.json.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import gzip
import io
import json
import statistics
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import medge
from medge.quant.onnx_graph.graph import Graph
from medge.runtime.bundles.metrics import each_alone, grouped, wilson
from medge.runtime.device.onnx_session import OrtSession
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.encoder.labels import LabelBank
from medge.runtime.encoder.maps import PatchMap

RESULTS = Path(__file__).parent / "results" / "maps.json"
ROUNDS = 40
KINDS = {
    "AbdomenCT": "CT of the abdomen", "BreastMRI": "MRI of the breast", "CXR": "chest x-ray", "ChestCT": "CT of the chest",
    "Hand": "x-ray of the hand", "HeadCT": "CT of the head",
}  # fmt: skip
DOMAINS = {"us_breast_busi": "ultrasound of the breast", "cells_blood": "microscopy of a blood smear"}
PER_KIND, SEED = 40, 20261126

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """A picture, (H, W, 3), what it is asked for, and where that is, (H, W); pictures of a group are one picture."""

    picture: Pixels
    labels: tuple[str, ...]
    asked: str
    place: NDArray[np.bool_]
    group: int


def pictures(path: Path, prefix: str) -> Iterator[tuple[str, Pixels]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.startswith(prefix) and member.name.endswith((".jpg", ".jpeg", ".png")):
                stream = archive.extractfile(member)
                assert stream is not None
                yield member.name, np.asarray(Image.open(io.BytesIO(stream.read())).convert("RGB"))


def box(shape: tuple[int, ...], corners: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    """x0, y0, x1, y1 as shares of the picture, to its pixels."""
    (height, width), (x0, y0, x1, y1) = shape[:2], corners
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    return ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None]


def mosaics(encoder: Encoder, data: Path, limit: int) -> Iterator[Case]:
    pools: dict[str, list[Pixels]] = {}
    for name, label in KINDS.items():
        pools[label] = [p for _, p in _first(pictures(data / "mednist" / "test.tar", f"{name}/"), PER_KIND)]
    for name, label in DOMAINS.items():
        pools[label] = [p for _, p in _first(pictures(data / "domains" / f"{name}.tar", "test/"), PER_KIND)]
    bank = encoder.bank(list(pools))
    known = {
        label: [p for p, found in zip(pool, encoder.classify(pool, bank), strict=True) if found.best == label]
        for label, pool in pools.items()
    }
    kinds = tuple(label for label, pool in known.items() if len(pool) >= 4)
    print(f"mosaics of {', '.join(kinds)}", flush=True)
    rng, side = np.random.default_rng(SEED), encoder.facts.image_size // 2
    for group in range(limit):
        four = [kinds[place] for place in rng.permutation(len(kinds))[:4]]
        tiles = [
            np.asarray(Image.fromarray(known[kind][rng.integers(len(known[kind]))]).resize((side, side)))
            for kind in four
        ]
        picture = np.concatenate([np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)])
        for number, kind in enumerate(four):
            y, x = divmod(number, 2)
            yield Case(picture, kinds, kind, box(picture.shape, (x / 2, y / 2, (x + 1) / 2, (y + 1) / 2)), group)


def _first(items: Iterator[tuple[str, Pixels]], count: int) -> Iterator[tuple[str, Pixels]]:
    return (item for item, _ in zip(items, range(count), strict=False))


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with tarfile.open(path) as archive:
        stream = archive.extractfile("labels.csv")
        assert stream is not None
        return {row["file"]: row for row in csv.DictReader(io.TextIOWrapper(stream, "utf-8"))}


def polyps(data: Path, limit: int) -> Iterator[Case]:
    path, labels = data / "domains" / "endo_polyp.tar", ("polyp of the colon", "normal lining of the colon")
    rows = _rows(path)
    for group, (name, picture) in enumerate(_first(pictures(path, "test/"), limit)):
        corners = json.loads(rows[name]["extra"])["box_xyxy_fraction"]
        yield Case(picture, labels, labels[0], box(picture.shape, tuple(corners)), group)


def chest_findings(data: Path, limit: int) -> Iterator[Case]:
    """Boxes are in pixels of 1024 x 1024; a picture may have several."""
    path = data / "metadata" / "nih_chestxray14" / "BBox_List_2017.csv.gz"
    boxes: dict[str, list[tuple[str, list[float]]]] = {}
    with gzip.open(path, "rt") as stream:
        for row in list(csv.reader(stream))[1:]:
            boxes.setdefault(Path(row[0]).stem, []).append(
                (row[1].lower(), [float(value) / 1024 for value in row[2:6]])
            )
    held = ((name, p) for name, p in pictures(data / "domains" / "cxr_nih.tar", "") if Path(name).stem in boxes)
    for group, (name, picture) in enumerate(_first(held, limit)):
        for finding, (x, y, width, height) in boxes[Path(name).stem]:
            labels = (f"chest x-ray with {finding}", "chest x-ray without findings")
            yield Case(picture, labels, labels[0], box(picture.shape, (x, y, x + width, y + height)), group)


def breast_lesions(folder: Path, limit: int) -> Iterator[Case]:
    labels = ("lesion of the breast", "normal breast tissue")
    paths = [path for kind in ("benign", "malignant") for path in sorted((folder / kind).glob("*).png"))]
    step = max(1, len(paths) // limit)
    for group, path in enumerate(paths[::step][:limit]):
        picture = np.asarray(Image.open(path).convert("RGB"))
        masks = [np.asarray(Image.open(mask).convert("L")) > 127 for mask in path.parent.glob(f"{path.stem}_mask*.png")]
        yield Case(picture, labels, labels[0], np.any(masks, axis=0), group)


def occlusion(encoder: Encoder, picture: Pixels, bank: LabelBank) -> NDArray[np.float32]:
    """The loss of each label's cosine less the mean of the others' under a grey square, (labels, rows, columns)."""
    side, patch = encoder.facts.image_size, encoder.facts.patch_size
    cells, square = side // patch, encoder.resize(picture)
    covered = [square]
    for number in range(cells**2):
        row, column = divmod(number, cells)
        hidden = square.copy()
        hidden[max(row - 1, 0) * patch : (row + 2) * patch, max(column - 1, 0) * patch : (column + 2) * patch] = 128
        covered.append(hidden)
    embeddings = encoder.embed_pixels(np.stack([encoder.normalise(one) for one in covered]))
    cosine = embeddings @ bank.embeddings.T
    others = (cosine.sum(1, keepdims=True) - cosine) / (len(bank.names) - 1)
    explained = cosine - others
    return (explained[0] - explained[1:]).T.reshape(-1, cells, cells)


def measure(encoder: Encoder, name: str, cases: Iterator[Case]) -> dict[str, Any]:
    banks: dict[tuple[str, ...], LabelBank] = {}
    hits: dict[str, list[float]] = {"map": [], "occlusion": [], "middle": [], "chance": []}
    groups: list[int] = []
    last: tuple[tuple[int, tuple[str, ...]], PatchMap, NDArray[np.float32]] | None = None
    for case in cases:
        bank = banks.setdefault(case.labels, encoder.bank(list(case.labels)))
        key = (case.group, case.labels)
        if last is None or last[0] != key:
            last = (key, encoder.map(case.picture, bank), occlusion(encoder, case.picture, bank))
        _, found, hidden = last
        number = case.labels.index(case.asked)
        inside = _inside(case.place, found)
        for way, grid in (("map", found.grids[number]), ("occlusion", hidden[number])):
            hits[way].append(float(inside.ravel()[int(grid.argmax())]))
        height, width = case.place.shape
        hits["middle"].append(float(case.place[height // 2, width // 2]))
        hits["chance"].append(float(inside.mean()))
        groups.append(case.group)
    figures = {way: _share(np.array(values), np.array(groups)) for way, values in hits.items()}
    print(
        f"{name}: {len(groups)} questions, { ({way: round(f['value'], 3) for way, f in figures.items()}) }", flush=True
    )
    return {"set": name, "questions": len(groups), "pictures": len(set(groups)), **figures}


def _inside(place: NDArray[np.bool_], found: PatchMap) -> NDArray[np.bool_]:
    """Which patches' middles lie in the place, (rows, columns)."""
    area, cells = found.area, np.arange(found.grids.shape[1])
    y = np.floor(area.top + (cells + 0.5) / len(cells) * area.height).astype(int)
    x = np.floor(area.left + (cells + 0.5) / len(cells) * area.width).astype(int)
    seen = ((y >= 0) & (y < place.shape[0]))[:, None] & ((x >= 0) & (x < place.shape[1]))[None]
    inside: NDArray[np.bool_] = place.take(y, 0, mode="clip").take(x, 1, mode="clip") & seen
    return inside


def _share(values: NDArray[np.float64], groups: NDArray[np.intp]) -> dict[str, float]:
    if each_alone(groups) and set(values) <= {0.0, 1.0}:
        low, high = wilson(int(values.sum()), len(values))
    else:
        low, high = grouped(lambda rows: float(values[rows].mean()), groups)
    return {"value": float(values.mean()), "low": low, "high": high}


def cost(encoder: Encoder) -> dict[str, Any]:
    """The vision tower's file and an image's processor time against the same tower without the output: median, and quartiles."""
    facts, path = encoder.towers["vision"], encoder.bundle.path("vision")
    assert path is not None
    graph = Graph.load(path)
    with_map = graph.model.ByteSize()
    graph.drop_output(facts.map_output)
    graph.replace({node.name: [] for node in graph.nodes if node.name.startswith("contributions")})
    sessions = {
        "without": (OrtSession(graph.model.SerializeToString(), threads=1, device="cpu"), [facts.output]),
        "not asked for": (OrtSession(path, threads=1, device="cpu"), [facts.output]),
        "asked for": (OrtSession(path, threads=1, device="cpu"), [facts.output, facts.map_output]),
    }
    side = encoder.facts.image_size
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 3, side, side)).astype(np.float32)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS + 2):
        for name, (session, outputs) in sessions.items():
            start = time.process_time()
            session.run(outputs, {facts.inputs[0]: pixels})
            times[name].append(time.process_time() - start)
    base = np.array(times.pop("without")[2:])
    ratios = {name: np.array(values[2:]) / base for name, values in times.items()}
    return {
        "bytes": with_map, "bytes_ratio": with_map / graph.model.ByteSize(),
        "time": {name: _quartiles(values) for name, values in ratios.items()},
    }  # fmt: skip


def _quartiles(values: NDArray[np.float64]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values.tolist(), n=4)
    return {"value": middle, "low": low, "high": high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--busi", type=Path)
    parser.add_argument("--limit", type=int, default=50, help="pictures of each set")
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    encoder = medge.load_encoder(arguments.bundle, allow_failed_parity=True)
    limit = arguments.limit
    sets: Mapping[str, Iterator[Case]] = {
        "mosaics": mosaics(encoder, arguments.data, limit), "polyps": polyps(arguments.data, limit),
        "chest findings": chest_findings(arguments.data, limit),
        **({"breast lesions": breast_lesions(arguments.busi, limit)} if arguments.busi else {}),
    }  # fmt: skip
    facts = {
        "date": datetime.date.today().isoformat(), "source": encoder.manifest.source.name,
        "recipe": encoder.towers["vision"].recipe, "patches": (encoder.facts.image_size // encoder.facts.patch_size) ** 2,
        "rows": [measure(encoder, name, cases) for name, cases in sets.items()], "cost": cost(encoder),
    }  # fmt: skip
    print(json.dumps(facts["cost"]))
    if arguments.record:
        RESULTS.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
