"""What merging similar patches costs and brings: a sweep over tokens merged in each block.

    python benchmarks/token_merging.py [--data ../shared/data] [--limit N] [--full-size DIR] [--json FILE]

On `medsiglip-mini`, in fp32, so that merging alone is seen: distance from PyTorch, changed answers and AUC on the three
held-back test sets, and the time of an image against no merging, in turns in one run. Then each recipe that merges within
its gates, calibrated on training images, against the same recipe without: how many patches it merges, whether its gates pass
on the test sets, and what share of the other's time an image takes. --full-size makes the 878 M-parameter stand-in under DIR
and times its vision tower in ONNX Runtime likewise (random weights: speed only). Stores what was run in FILE,
benchmarks/results/token_merging.json if left out. --limit, which is for trying the script, takes N test images of a label and
only the least and the largest merge of the sweep.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medge.export.families.full_precision import FullPrecision
from medge.export.families.siglip import Reference
from medge.export.families.token_merging import MergingTower, patches
from medge.export.jobs.encoder import export_medsiglip, measure_artefact
from medge.export.jobs.encoder_job import ExportJob
from medge.export.source.checkpoint import Checkpoint
from medge.export.source.samples import read_samples
from medge.export.standin.medsiglip.held_out import SETS, held_out_prompts
from medge.export.standin.public_data import write_calibration, write_folder
from medge.export.standin.write import write_medsiglip_mini, write_medsiglip_random
from medge.export.to_onnx.towers import export_tower
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.bundles.parity_report import EncoderReport
from medge.runtime.device.cpu import pick_target
from medge.runtime.device.onnx_session import OrtSession

RESULTS = Path(__file__).parent / "results" / "token_merging.json"
# Of the stand-in's 196 patches, 14 a block leave 28 after its 12 blocks.
MINI, FULL = (0, 2, 4, 6, 8, 10, 12, 14), (0, 12, 24, 37)
WITHOUT = {"fast": "int8", "turbo": "int4"}  # a recipe that merges -> the same without merging
ROUNDS = 60
Name = TypeVar("Name", int, str)


def time_sessions(sessions: dict[Name, OrtSession], pixels: Any, rounds: int) -> dict[Name, float]:
    times: dict[Name, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(["pooler_output"], {"pixel_values": pixels})
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


class Workplace:
    """The stand-in in full precision and in PyTorch, with the held-back images that it is judged on."""

    def __init__(self, data: Path, limit: int | None, place: Path, full: FullPrecision) -> None:
        self.place, self.full = place, full
        tower = full.reference.model.vision_model
        self.patches, self.side = patches(tower), tower.config.image_size
        self.calibration = write_calibration(data, place / "calibration")
        self.samples = {
            dataset: read_samples(write_folder(data, dataset, "test", place / dataset, limit), labelled=True)
            for dataset in SETS
        }
        self.pixels = next(iter(self.samples["mednist"].inputs("eval-tf", self.side, 1)))[:1]

    def export(self, recipe: str, merge: int | None) -> tuple[Bundle, OrtSession, dict[str, int]]:
        """A bundle, its vision tower, and how many patches a block merges and how many are left at the end."""
        out = self.place / f"{recipe}-{merge}"
        # Only a recipe that chooses how many needs images like those that will come.
        calibration = self.calibration if merge is None else None
        job = ExportJob(self.place / "checkpoint", out, recipe, merge=merge, calibration=calibration)
        bundle, _ = export_medsiglip(job, full=self.full)
        path = bundle.path("vision")
        assert path is not None
        tower = bundle.manifest.towers["vision"]
        facts = {"merged": tower.merged, "tokens_left": tower.decisions.get("tokens_left", self.patches)}
        return bundle, OrtSession(path, device="cpu"), facts

    def judged(self, bundle: Bundle) -> dict[str, EncoderReport]:
        """The report of each held-back set."""
        return {
            dataset: measure_artefact("onnx", bundle, self.full, samples, prompts=held_out_prompts(dataset))
            for dataset, samples in self.samples.items()
        }


@contextlib.contextmanager
def workplace(data: Path, limit: int | None) -> Iterator[Workplace]:
    with tempfile.TemporaryDirectory() as name:
        write_medsiglip_mini(Path(name) / "checkpoint")
        with FullPrecision(Reference(Checkpoint.open(Path(name) / "checkpoint", "siglip"))) as full:
            yield Workplace(data, limit, Path(name), full)


def sweep(work: Workplace, counts: Sequence[int]) -> list[dict[str, Any]]:
    rows, sessions = [], {}
    for merged in counts:
        bundle, sessions[merged], facts = work.export("fp32", merged)
        for dataset, report in work.judged(bundle).items():
            figures = asdict(report.figures)
            rows.append(
                {
                    **facts, "images": dataset, "centred": figures["vision"]["centred_cosine"],
                    "flips": figures["scores"]["flips"], "auc_difference": figures["scores"]["auc_difference"],
                }
            )  # fmt: skip
        print(f"{merged} merged: {[round(row['centred']['mean'], 5) for row in rows[-3:]]}", flush=True)
    times = time_sessions(sessions, work.pixels, ROUNDS)
    return [{**row, "time_ratio": times[row["merged"]] / times[0]} for row in rows]


def recipes(work: Workplace) -> list[dict[str, Any]]:
    """Each recipe that merges, against the same without: a row each, which says whether it is faster within its gates."""
    rows = []
    for merging, plain in WITHOUT.items():
        bundle, session, facts = work.export(merging, None)
        _, other, _ = work.export(plain, None)
        times = time_sessions({merging: session, plain: other}, work.pixels, ROUNDS)
        gates = {dataset: report.verdict for dataset, report in work.judged(bundle).items()}
        ratio = times[merging] / times[plain]
        row = {
            "recipe": merging,
            "without": plain,
            **facts,
            "time_ratio": ratio,
            "gates": gates,
            "target": pick_target()[0].name,
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def full_size(folder: Path) -> list[dict[str, Any]]:
    checkpoint = folder / "medsiglip-random"
    if not checkpoint.is_dir():
        write_medsiglip_random(checkpoint)
    tower = Reference(Checkpoint.open(checkpoint, "siglip")).model.vision_model
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 3, 448, 448)).astype(np.float32)
    rows, base = [], 0.0
    plain = folder / "plain.onnx"
    export_tower(tower, Reference.signatures["vision"]).save(plain)
    for merged in FULL[1:]:
        merging = MergingTower(tower, merged)
        path = folder / "merged.onnx"
        export_tower(merging, Reference.signatures["vision"]).save(path)
        # Two at a time: more do not fit into memory beside the model in PyTorch.
        times = time_sessions({0: OrtSession(plain, device="cpu"), merged: OrtSession(path, device="cpu")}, pixels, 3)
        base = times[0]
        rows.append(
            {
                "merged": merged,
                "tokens_left": merging.tokens,
                "seconds": times[merged],
                "time_ratio": times[merged] / base,
            }
        )
        print(rows[-1], flush=True)
    return [{"merged": 0, "tokens_left": 1024, "seconds": base, "time_ratio": 1.0}, *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--limit", type=int, help="test images a label; all if left out")
    parser.add_argument("--full-size", type=Path)
    parser.add_argument("--only-full-size", action="store_true")
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    if not arguments.only_full_size:
        with workplace(arguments.data, arguments.limit) as work:
            results["mini"] = sweep(work, MINI if arguments.limit is None else (MINI[0], MINI[-1]))
            results["recipes"] = recipes(work)
    if arguments.full_size:
        arguments.full_size.mkdir(parents=True, exist_ok=True)
        results["full_size"] = full_size(arguments.full_size)
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
