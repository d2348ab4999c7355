"""LiteRT files of `medsiglip-mini`: each recipe against PyTorch, and its processor time beside ONNX Runtime's.

    python benchmarks/litert.py [--data ../shared/data] [--limit N] [--rounds N] [--json FILE]

In the environment that `make litert` makes. Calibrated on training images, judged on the three held-back test sets. Then a
tower of each recipe that both formats have is run on one input by both engines in turns, one thread each: LiteRT's
interpreter beside ONNX Runtime as medge opens it, and as it opens it with `--fast`. The processor's time counts, since other
processes share the machine; a ratio is the median of all turns with its 95% interval. Stores all of it in FILE,
benchmarks/results/litert.json if left out. --limit takes N test images of a label.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from standin_parity import row

from medge.export.families.full_precision import FullPrecision
from medge.export.families.siglip import Reference
from medge.export.jobs.encoder import export_medsiglip, measure_artefact
from medge.export.jobs.encoder_job import ExportJob
from medge.export.source.checkpoint import Checkpoint
from medge.export.source.samples import read_samples
from medge.export.standin.medsiglip.held_out import SETS, held_out_prompts
from medge.export.standin.public_data import write_calibration, write_folder
from medge.export.standin.write import write_medsiglip_mini
from medge.quant.recipes.litert import LITERT_RECIPES
from medge.runtime.bench.ratio import Took, time_ratio, timed
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.device.cpu import pick_target
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.encoder.litert import LiteRTEncoder

RESULTS = Path(__file__).parent / "results" / "litert.json"
COMPARED = ("fp32", "int8", "int4")  # recipes of both formats that compute alike
ROUNDS = 60


@contextmanager
def workplace() -> Iterator[tuple[Path, FullPrecision]]:
    with tempfile.TemporaryDirectory() as name:
        write_medsiglip_mini(Path(name) / "checkpoint")
        with FullPrecision(Reference(Checkpoint.open(Path(name) / "checkpoint", "siglip"))) as full:
            yield Path(name), full


def measure(place: Path, full: FullPrecision, data: Path, limit: int | None) -> list[dict[str, Any]]:
    """A row for each recipe and test set."""
    calibration = write_calibration(data, place / "calibration")
    samples = {
        dataset: read_samples(write_folder(data, dataset, "test", place / dataset, limit), labelled=True)
        for dataset in SETS
    }
    rows = []
    for recipe in LITERT_RECIPES:
        job = ExportJob(place / "checkpoint", place / recipe, recipe, formats=("litert",), calibration=calibration)
        bundle, _ = export_medsiglip(job, full=full)
        towers = bundle.manifest.artefacts["litert"].towers
        size = {tower: bundle.tower_bytes(facts) for tower, facts in towers.items()}
        for dataset, judged in samples.items():
            report = measure_artefact("litert", bundle, full, judged, prompts=held_out_prompts(dataset))
            rows.append({**row(recipe, dataset, report), "count": len(judged), "bytes": size})
        print(
            f"{recipe}: {size}, {[(one['images'], one['centred_min'], one['status']) for one in rows[-3:]]}", flush=True
        )
    return rows


def in_turns(place: Path, full: FullPrecision, rounds: int) -> list[dict[str, Any]]:
    """A row for each recipe and tower: LiteRT's processor time as a share of ONNX Runtime's."""
    rng = np.random.default_rng(0)
    facts = full.reference.facts
    side = facts.image_size
    pixels = rng.uniform(-1, 1, (1, 3, side, side)).astype(np.float32)
    ids = rng.integers(2, facts.vocabulary, (1, facts.tokenizer.length))
    rows = []
    for recipe in COMPARED:
        job = ExportJob(place / "checkpoint", place / f"{recipe}-onnx", recipe)
        export_medsiglip(job, full=full)
        other = Bundle.open(job.out, allow_failed_parity=True)
        engines: dict[str, Encoder] = {
            "litert": LiteRTEncoder(Bundle.open(place / recipe, allow_failed_parity=True), threads=1),
            "onnx": Encoder(other, threads=1, device="cpu"),
            "onnx_fast": Encoder(other, threads=1, device="cpu", fast=True),
        }
        for tower in ("vision", "text"):
            calls: dict[str, Callable[[], object]] = {
                name: partial(one.embed_pixels, pixels) if tower == "vision" else partial(one.embed_ids, ids)
                for name, one in engines.items()
            }
            took: dict[str, list[Took]] = {name: [] for name in calls}
            for call in calls.values():
                call()
            for _ in range(rounds):
                for name, call in calls.items():
                    took[name].append(timed(call))
            rows.append({"recipe": recipe, "tower": tower, **_compared(took)})
            print(rows[-1], flush=True)
    return rows


def _compared(took: dict[str, list[Took]]) -> dict[str, Any]:
    """The processor's time of each engine, in milliseconds, and LiteRT's as a share of the others'."""
    worked = {name: [Took(one.cpu, one.cpu) for one in runs] for name, runs in took.items()}
    ratios = {}
    for other in ("onnx", "onnx_fast"):
        ratio = time_ratio(worked["litert"], worked[other])
        ratios[other] = None if ratio is None else {"value": ratio.value, "low": ratio.low, "high": ratio.high}
    milliseconds = {
        kind: {name: 1e3 * statistics.median(getattr(one, kind) for one in runs) for name, runs in took.items()}
        for kind in ("cpu", "wall")
    }
    return {"ratios": ratios, **milliseconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--limit", type=int, help="test images a label; all if left out")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with workplace() as (place, full):
        rows = measure(place, full, arguments.data, arguments.limit)
        results = {
            "date": time.strftime("%Y-%m-%d"), "target": pick_target()[0].name, "limit": arguments.limit, "rows": rows,
            "rounds": arguments.rounds, "turns": in_turns(place, full, arguments.rounds),
        }  # fmt: skip
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
