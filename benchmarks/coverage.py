"""How often images of kinds that nothing was chosen on are told from the others, for docs/results/coverage.md.

    python benchmarks/coverage.py demo-bundle [--data ../shared/data]

Embeds held-back images of eight kinds with an encoder's bundle (that of `make demo`). Of every one, two and three kinds,
half of the images stand for those that a recipe chooses on; the other halves of all kinds are held against them, of kinds
that are among them and of others. A second time each chosen image comes five times, a little changed, as slices of one
series do. Then two, four and six kinds are the labels of one folder, and none or one of them is missing among the chosen: how
often that is refused where the folder's labels are known, and where they are not. Stores benchmarks/results/coverage.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medge.export.source.coverage import OUTSIDE, beyond_chance, check_covered, to_look_at, unlike
from medge.export.source.samples import LEAST_TO_CHOOSE, Samples
from medge.export.standin.public_data import mednist, pneumoniamnist, vqa_rad
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.bundles.origin import today
from medge.runtime.encoder.labels import unit_length
from medge.runtime.encoder.load import load
from medge.runtime.errors import RecipeError

RESULTS = Path(__file__).parent / "results" / "coverage.json"
IMAGES = 200  # of a kind, at most: half of them serve to choose on
COPIES, MOVED = 5, 0.002  # of an embedding's numbers
Embeddings = NDArray[np.float32]


def kinds(data: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    labelled = ((f"MedNIST {example.label}", example) for example in mednist(data, "test"))
    films = (("PneumoniaMNIST", example) for example in pneumoniamnist(data, "test"))
    mixed = (("VQA-RAD", example) for example in vqa_rad(data, "test"))
    for kind, example in itertools.chain(labelled, films, mixed):
        if len(found[kind]) < IMAGES:
            found[kind].append(np.asarray(example.image))
    return found


def embed(bundle: Path, data: Path) -> dict[str, Embeddings]:
    encoder = load(bundle)
    return {kind: encoder.embed_images(images) for kind, images in kinds(data).items()}


def copies(chosen: Embeddings) -> Embeddings:
    noise = np.random.default_rng(0)
    moved = [chosen + noise.normal(0, MOVED, chosen.shape).astype(np.float32) for _ in range(COPIES)]
    return unit_length(np.concatenate(moved))


def cases(embedded: dict[str, Embeddings], *, copied: bool) -> Iterator[tuple[bool, float, bool]]:
    """(whether the kind is among the chosen, the share that is unlike them, whether that is refused)."""
    for count in (1, 2, 3):
        for chosen in itertools.combinations(embedded, count):
            rows = np.concatenate([embedded[kind][::2] for kind in chosen])
            if len(rows) < LEAST_TO_CHOOSE:
                continue
            known = copies(rows) if copied else rows
            judged = [images[1::2] for images in embedded.values()]
            everything = unlike(known, np.concatenate(judged))
            for kind, found in zip(embedded, np.split(everything, np.cumsum([*map(len, judged)])[:-1]), strict=True):
                yield kind in chosen, float(found.mean()), beyond_chance(int(found.sum()), len(found))


def folders(embedded: dict[str, Embeddings], count: int) -> Iterator[tuple[bool, bool, bool]]:
    """(whether a label is missing among the chosen, whether that is refused without the labels, and with them)."""
    for labels in itertools.combinations(embedded, count):
        judged = [embedded[kind][1::2] for kind in labels]
        rows, truth = np.concatenate(judged), np.repeat(np.arange(count), [*map(len, judged)])
        given = Samples([np.array(number) for number in range(len(rows))], truth, labels, (), "the folder")
        for missing in (None, *labels):
            chosen = np.concatenate([embedded[kind][::2] for kind in labels if kind != missing])
            if len(chosen) >= LEAST_TO_CHOOSE:
                unlabelled = given.only(range(len(rows)))
                yield missing is not None, refused(chosen, rows, unlabelled), refused(chosen, rows, given)


def refused(chosen: Embeddings, rows: Embeddings, given: Samples) -> bool:
    seen = to_look_at(given)
    judged = rows[[int(image) for image in seen.images]]
    try:
        check_covered(chosen, judged, Samples([], None, (), (), "the chosen"), seen, "it")
    except RecipeError:
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    arguments = parser.parse_args()
    embedded = embed(arguments.bundle, arguments.data)
    rows = []
    every = {copied: [*cases(embedded, copied=copied)] for copied in (False, True)}
    for copied, among in itertools.product(every, (True, False)):
        found = [case for case in every[copied] if case[0] == among]
        shares = np.array([share for _, share, _ in found])
        rows.append({
            "copied": copied, "among": among, "cases": len(found),
            "median": float(np.median(shares)), "least": float(shares.min()), "most": float(shares.max()),
            "refused": float(np.mean([refused for _, _, refused in found])),
        })  # fmt: skip
        print(rows[-1], flush=True)
    labelled = []
    for count in (2, 4, 6):
        found_all = list(folders(embedded, count))
        for missing in (False, True):
            answers = np.array([case[1:] for case in found_all if case[0] == missing])
            together, by_label = answers.mean(0)
            labelled.append({
                "labels": count, "missing": missing, "cases": len(answers), "together": float(together),
                "by_label": float(by_label),
            })  # fmt: skip
            print(labelled[-1], flush=True)
    kinds_of = {kind: len(rows) for kind, rows in embedded.items()}
    facts = {
        "date": today(),
        "bundle": Manifest.read(arguments.bundle).source.name,
        "images": kinds_of,
        "outside": OUTSIDE,
        "rows": rows,
        "labelled": labelled,
    }
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
