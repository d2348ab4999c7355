"""Calibrated scores on pictures that the stand-in never saw: docs/results/scores.md.

    python benchmarks/scores.py [--checkpoint DIR] [--data ../shared/data] [--recipes fp32,int8,int4,turbo] [--json FILE]

The test parts of several sets, each a kind of picture with labels of its own, are halved by patient `--splits` times: one
half calibrates, the other judges. Pictures of no such kind (discs, ramps, a cat, documents, skin, fundus, colon) must be flagged.
Each recipe is judged with its own thresholds and with those of the first recipe.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import medge
from medge.export.jobs.encoder import export_medsiglip
from medge.export.jobs.encoder_job import ExportJob
from medge.export.standin.medsiglip.evaluate import TASKS
from medge.export.standin.medsiglip.sources import domain_pictures, grey_sets
from medge.export.standin.medsiglip.words import QUESTIONS, prompts
from medge.export.standin.public_data import write_calibration
from medge.export.standin.write import write_medsiglip_mini
from medge.runtime.decisions.calibration import ScoreCalibration
from medge.runtime.decisions.facts import Wanted
from medge.runtime.decisions.fitting import parts
from medge.runtime.decisions.judging import judge
from medge.runtime.decisions.labelled import Labelled
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.encoder.score_calibration import fit_scores, labelled

KINDS = {
    "pneumoniamnist": "chest film", "us_breast_busi": "breast ultrasound", "mri_brain_tumour": "brain MRI",
    "cells_blood": "blood cell", "mednist": "whole picture",
}  # fmt: skip
OTHERS = ("derm_ham10000", "fundus_disease", "histo_lc25000", "endo_polyp")
EACH = 60  # odd pictures of a sort
NEIGHBOURS = (1, 5)
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Known:
    """Pictures of the kinds that are calibrated: images, and of each its label, patient and kind."""

    images: list[Picture]
    labels: list[str]
    groups: list[str]
    kinds: list[str]


def read(data: Path) -> tuple[Known, dict[str, list[str]]]:
    """The test pictures of all kinds, and {label: prompts}."""
    known, texts = Known([], [], [], []), {}
    sources = [picture for picture in grey_sets(data) if picture.domain in KINDS]
    for domain in KINDS:
        archive = data / "domains" / f"{domain}.tar"
        if archive.exists():
            sources += domain_pictures(archive)
    for picture in sources:
        question = TASKS[picture.domain]
        facts = [(key, picture.facts.get(key, "")) for key in QUESTIONS[question].keys]
        # MedNIST's chest x-rays are the same kind of picture as the chest films.
        if picture.split != "test" or picture.label == "CXR" or not all(value for _, value in facts):
            continue
        kind = KINDS[picture.domain]
        label = f"{kind}: {picture.label}"
        texts.setdefault(label, prompts(question, tuple(facts)))
        known.images.append(picture.image)
        known.labels.append(label)
        known.groups.append(f"{picture.domain}/{picture.group}")
        known.kinds.append(kind)
    return known, texts


def odd(data: Path) -> dict[str, list[Picture]]:
    """Pictures of no kind that is calibrated, by sort."""
    from skimage import data as skimages

    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[-1:1:224j, -1:1:224j]
    found: dict[str, list[Picture]] = defaultdict(list)
    for _ in range(EACH):
        y, x, radius, grey, ground, turn = rng.uniform([-0.3, -0.3, 0.3, 60, 0, 0], [0.3, 0.3, 0.8, 255, 60, 6.3])
        disc = np.hypot(rows - y, columns - x) < radius
        found["grey disc"].append(np.where(disc, grey, ground).astype(np.uint8))
        ramp = rows * np.sin(turn) + columns * np.cos(turn)
        found["ramp"].append(np.interp(ramp, [-1.4, 1.4], [0, 255]).astype(np.uint8))
        found["cat"].append(_crop(skimages.cat(), rng))
        found["document"].append(_crop(skimages.page(), rng))
    for domain in OTHERS:
        pictures = [picture.image for picture in domain_pictures(data / "domains" / f"{domain}.tar")]
        found[domain] = [pictures[place] for place in rng.permutation(len(pictures))[:EACH]]
    return dict(found)


def _crop(image: Picture, rng: np.random.Generator) -> Picture:
    """Three fifths to all of a picture."""
    height, width = (round(side * share) for side, share in zip(image.shape[:2], rng.uniform(0.6, 1, 2), strict=True))
    top, left = rng.integers(0, image.shape[0] - height + 1), rng.integers(0, image.shape[1] - width + 1)
    return np.ascontiguousarray(image[top : top + height, left : left + width])


@dataclass(frozen=True)
class Embedded:
    """A recipe's embeddings of everything."""

    encoder: Encoder
    known: Labelled
    odd: dict[str, NDArray[np.float32]]


def embedded(bundle: Path, known: Known, strange: dict[str, list[Picture]]) -> Embedded:
    encoder = medge.load_encoder(bundle, allow_failed_parity=True)
    rows = encoder.embed_images(known.images)
    images = labelled(encoder, rows, known.labels, groups=known.groups, kinds=known.kinds)
    return Embedded(encoder, images, {name: encoder.embed_images(images) for name, images in strange.items()})


def halves(images: Labelled, splits: int) -> Iterator[tuple[Labelled, Labelled, int]]:
    """Pairs of a half that calibrates and one that judges, by patient."""
    for seed in range(splits):
        groups = np.unique(images.groups)
        chosen = np.random.default_rng(seed).permutation(groups)[: len(groups) // 2]
        mine = np.isin(images.groups, chosen)
        yield images.of(mine), images.of(~mine), seed


def figures(calibration: ScoreCalibration) -> dict[str, float]:
    """What a calibration gave where it was judged: means over kinds and labels."""
    kinds = calibration.facts.kinds
    points = [point for kind in kinds for point in kind.points if point]
    found = {f"coverage, {kind.name}": kind.coverage.value for kind in kinds if kind.coverage}
    covered = [(kind.coverage.value, kind.coverage.count) for kind in kinds if kind.coverage]
    if covered:
        found["coverage"] = float(np.average([value for value, _ in covered], weights=[count for _, count in covered]))
    for name in ("sensitivity", "specificity", "uncertain"):
        values = [rate.value for point in points if (rate := getattr(point, name)) is not None]
        if values:
            found[name] = float(np.mean(values))
    for name in ("error_before", "error_after"):
        if values := [value for kind in kinds if (value := getattr(kind, name)) is not None]:
            found[name] = float(np.mean(values))
    if calibration.facts.flagged is not None:
        found["flagged"] = calibration.facts.flagged.value
    return found


def neighbours(fitted: Labelled, placed: Labelled, k: int, known: float) -> tuple[NDArray[np.float32], float]:
    """The alternative: embeddings to be near to, and the mean cosine to the k nearest below which a picture is flagged."""
    near = nearest(fitted.embeddings, placed.embeddings, k)
    place = int(np.floor((len(near) + 1) * (1 - known) + 1e-9))
    return fitted.embeddings, float(np.sort(near)[max(place, 1) - 1])


def nearest(rows: NDArray[np.float32], asked: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Of each asked row the mean cosine to its k nearest rows."""
    return np.sort(asked @ rows.T, axis=1)[:, -k:].mean(axis=1)


def run(recipes: dict[str, Embedded], splits: int, wanted: Wanted) -> dict[str, Any]:
    """Figures by recipe and way, each a list over the splits."""
    found: dict[str, Any] = {}
    first = next(iter(recipes))
    borrowed: list[ScoreCalibration] = []
    for name, one in recipes.items():
        ways: dict[str, dict[str, list[float]]] = {"own": defaultdict(list), "borrowed": defaultdict(list)}
        apart: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for calibrating, judging, seed in halves(one.known, splits):
            fitted = fit_scores(one.encoder, calibrating, wanted, "the sets' test parts", seed)
            for figure, value in figures(judge(fitted, judging)).items():
                ways["own"][figure].append(value)
            if name == first:
                borrowed.append(fitted)
                _flag(apart, fitted, calibrating, judging, one.odd, seed, wanted)
            else:
                for figure, value in figures(judge(borrowed[seed], judging)).items():
                    ways["borrowed"][figure].append(value)
        found[name] = {way: {figure: summary(values) for figure, values in rows.items()} for way, rows in ways.items()}
        if apart:
            found["flagged"] = {
                way: {sort: summary(values) for sort, values in rows.items()} for way, rows in apart.items()
            }
    return found


def _flag(
    apart: dict[str, dict[str, list[float]]], fitted: ScoreCalibration, calibrating: Labelled, judging: Labelled,
    strange: dict[str, NDArray[np.float32]], seed: int, wanted: Wanted,
) -> None:  # fmt: skip
    """Add the share that is flagged of each sort of picture, by each way to measure how far a picture is."""
    everything = {"proper pictures": judging.embeddings, **strange}
    limit = fitted.facts.limit
    assert limit is not None
    for sort, rows in everything.items():
        apart["Mahalanobis"][sort].append(float((fitted.density.nearest(rows)[0] > limit).mean()))
    first, second, _ = parts(calibrating.groups, seed)
    for k in NEIGHBOURS:
        near, least = neighbours(calibrating.of(first), calibrating.of(second), k, wanted.known)
        for sort, rows in everything.items():
            apart[f"nearest {k}"][sort].append(float((nearest(near, rows, k) < least).mean()))


def summary(values: Sequence[float]) -> dict[str, float]:
    """The mean over the splits, and the least and the greatest."""
    return {"mean": float(np.mean(values)), "least": float(np.min(values)), "greatest": float(np.max(values))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint; the stand-in where it is left out")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--recipes", default="fp32,int8,int4,turbo")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "scores.json")
    args = parser.parse_args()
    known, texts = read(args.data)
    strange = odd(args.data)
    wanted = Wanted()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        checkpoint = args.checkpoint or place / "checkpoint"
        if args.checkpoint is None:
            write_medsiglip_mini(checkpoint)
        calibration = write_calibration(args.data, place / "calibration")
        labels = place / "labels.json"
        labels.write_text(json.dumps(texts))
        recipes = {}
        for recipe in args.recipes.split(","):
            export_medsiglip(ExportJob(checkpoint, place / recipe, recipe, calibration=calibration, labels=labels))
            recipes[recipe] = embedded(place / recipe, known, strange)
            print(f"{recipe}: {len(known.images)} pictures, {len(texts)} labels", flush=True)
        found = run(recipes, args.splits, wanted)
    counts = {kind: known.kinds.count(kind) for kind in KINDS.values()}
    facts = {"pictures": counts, "odd": {sort: len(images) for sort, images in strange.items()}, "splits": args.splits,
             "wanted": {"coverage": wanted.coverage, "known": wanted.known, "sensitivity": wanted.sensitivity,
                        "specificity": wanted.specificity}, "found": found}  # fmt: skip
    args.json.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
