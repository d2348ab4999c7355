"""What merging similar patches costs and brings: a sweep over tokens merged in each block.

    python benchmarks/token_merging.py [--data ../shared/data] [--full-size DIR]

On the six-block stand-in, in fp32, so that merging alone is seen: distance from PyTorch, changed answers and AUC on the three
held-back test sets, and the time of an image against no merging, in turns in one run. --full-size makes the 878 M-parameter
stand-in under DIR and times its vision tower in ONNX Runtime likewise (random weights: speed only). Stores what was run in
benchmarks/results/token_merging.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from medge.export.families.full_precision import FullPrecision
from medge.export.families.siglip import Reference
from medge.export.families.token_merging import MergingTower
from medge.export.jobs.encoder import export_medsiglip, measure_artefact
from medge.export.jobs.encoder_job import ExportJob
from medge.export.source.checkpoint import Checkpoint
from medge.export.source.samples import read_samples
from medge.export.standin.public_data import write_folder
from medge.export.standin.six_blocks.captions import ZERO_SHOT, prompts
from medge.export.standin.six_blocks.write import write_six_blocks
from medge.export.standin.write import write_medsiglip_random
from medge.export.to_onnx.towers import export_tower
from medge.runtime.device.onnx_session import OrtSession

RESULTS = Path(__file__).parent / "results" / "token_merging.json"
MINI, FULL = (0, 1, 2, 3, 4, 6, 8), (0, 12, 24, 37)


def time_sessions(sessions: dict[int, OrtSession], pixels: Any, rounds: int) -> dict[int, float]:
    times: dict[int, list[float]] = {merged: [] for merged in sessions}
    for _ in range(rounds):
        for merged, session in sessions.items():
            start = time.perf_counter()
            session.run(["pooler_output"], {"pixel_values": pixels})
            times[merged].append(time.perf_counter() - start)
    return {merged: statistics.median(values) for merged, values in times.items()}


def sweep(data: Path) -> list[dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_six_blocks(place / "checkpoint")
        reference = Reference(Checkpoint.open(place / "checkpoint", "siglip"))
        samples = {
            dataset: read_samples(write_folder(data, dataset, "test", place / dataset), labelled=True)
            for dataset in ZERO_SHOT
        }
        full = stack.enter_context(FullPrecision(reference))
        rows, sessions = [], {}
        for merged in MINI:
            job = ExportJob(place / "checkpoint", place / f"b{merged}", "fp32", merge=merged)
            bundle, _ = export_medsiglip(job, full=full)
            path = bundle.path("vision")
            assert path is not None
            sessions[merged] = OrtSession(path, device="cpu")
            left = bundle.manifest.towers["vision"].decisions.get("tokens_left", 64)
            for dataset, classes in ZERO_SHOT.items():
                words = {label: prompts(facts) for label, facts in classes.items()}
                figures = asdict(measure_artefact("onnx", bundle, full, samples[dataset], prompts=words).figures)
                rows.append(
                    {
                        "merged": merged, "tokens_left": left, "images": dataset, "centred": figures["vision"]["centred_cosine"],
                        "flips": figures["scores"]["flips"],
                        "auc_difference": figures["scores"]["auc_difference"],
                    }
                )  # fmt: skip
            print(f"{merged} merged: {[round(row['centred']['mean'], 5) for row in rows[-3:]]}", flush=True)
        pixels = next(iter(samples["mednist"].inputs("eval-tf", 112, 1)))[:1]
        times = time_sessions(sessions, pixels, 60)
        return [{**row, "time_ratio": times[row["merged"]] / times[0]} for row in rows]


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
    parser.add_argument("--full-size", type=Path)
    parser.add_argument("--only-full-size", action="store_true")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not arguments.only_full_size:
        results["mini"] = sweep(arguments.data)
    if arguments.full_size:
        arguments.full_size.mkdir(parents=True, exist_ok=True)
        results["full_size"] = full_size(arguments.full_size)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
