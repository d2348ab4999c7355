"""Every recipe on `medsiglip-mini` against PyTorch, on the three held-back test sets: docs/results/encoder-parity.md.

    python benchmarks/standin_parity.py [--data ../shared/data] [--recipes int8,int4] [--target auto] [--limit N] [--json FILE]

Each bundle is calibrated on training images and judged on test images that the stand-in never saw, N of a label
with --limit, which is for trying the script.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from medge.export.families.full_precision import FullPrecision
from medge.export.families.siglip import Reference
from medge.export.jobs.encoder import export_medsiglip, measure_artefact
from medge.export.jobs.encoder_job import ExportJob
from medge.export.source.checkpoint import Checkpoint
from medge.export.source.samples import read_samples
from medge.export.standin.medsiglip.held_out import SETS, held_out_prompts
from medge.export.standin.public_data import write_calibration, write_folder
from medge.export.standin.write import write_medsiglip_mini
from medge.quant.recipes.onnx import ONNX_RECIPES
from medge.runtime.bundles.figures import Paired
from medge.runtime.bundles.parity_report import EncoderReport


def run(data: Path, recipes: list[str], target: str, limit: int | None) -> dict[str, dict[str, EncoderReport]]:
    """{recipe: {dataset: report}}."""
    reports: dict[str, dict[str, EncoderReport]] = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_medsiglip_mini(place / "checkpoint")
        calibration = write_calibration(data, place / "calibration")
        samples = {}
        for dataset in SETS:
            samples[dataset] = read_samples(write_folder(data, dataset, "test", place / dataset, limit), labelled=True)
        with FullPrecision(Reference(Checkpoint.open(place / "checkpoint", "siglip"))) as full:
            for recipe in recipes:
                job = ExportJob(place / "checkpoint", place / recipe, recipe, target=target, calibration=calibration)
                bundle, _ = export_medsiglip(job, full=full)
                reports[recipe] = {
                    dataset: measure_artefact(
                        "onnx", bundle, full, samples[dataset], prompts=held_out_prompts(dataset)
                    )
                    for dataset in SETS
                }  # fmt: skip
    return reports


def row(recipe: str, dataset: str, report: EncoderReport) -> dict[str, Any]:
    vision, text, scores = report.figures.vision, report.figures.text, report.figures.scores
    task = "auc" if dataset == "pneumoniamnist" else "accuracy"
    found: Paired | None = scores.auc if task == "auc" else scores.accuracy
    assert found is not None
    assert text is not None
    assert vision.centred_cosine is not None
    assert text.centred_cosine is not None
    return {
        "recipe": recipe, "images": dataset, "max_error": vision.max_error, "centred_mean": vision.centred_cosine.mean,
        "centred_min": vision.centred_cosine.min, "text_centred_min": text.centred_cosine.min, "flips": scores.flips,
        "task": task, "reference": asdict(found.reference), "bundle": asdict(found.bundle),
        "auc_difference": scores.auc_difference, "size_ratio": report.figures.size.ratio_to_fp32, "status": report.verdict,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--recipes", default=",".join(ONNX_RECIPES))
    parser.add_argument("--target", default="auto")
    parser.add_argument("--limit", type=int, help="test images a label; all if left out")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [
        row(recipe, dataset, report)
        for recipe, by_dataset in run(args.data, args.recipes.split(","), args.target, args.limit).items()
        for dataset, report in by_dataset.items()
    ]
    table = Table(title="medsiglip-mini against PyTorch")
    for column in ("recipe", "test images", "centred cosine mean", "min", "text min", "flips", "PyTorch", "bundle",
                   "AUC difference", "gates"):  # fmt: skip
        table.add_column(column)
    for item in rows:
        reference, bundle = item["reference"], item["bundle"]
        table.add_row(
            item["recipe"], item["images"], f"{item['centred_mean']:.6f}", f"{item['centred_min']:.6f}",
            f"{item['text_centred_min']:.6f}", f"{100 * item['flips']:.2f}%",
            f"{item['task']} {reference['value']:.4f} [{reference['low']:.3f}, {reference['high']:.3f}]",
            f"{bundle['value']:.4f} [{bundle['low']:.3f}, {bundle['high']:.3f}]",
            f"{item['auc_difference']:.5f}", item["status"],
        )  # fmt: skip
    Console(width=180).print(table)
    if args.json:
        # A run of some recipes replaces their rows and leaves the others.
        old = json.loads(args.json.read_text()) if args.json.exists() else []
        merged = [item for item in old if item["recipe"] not in args.recipes.split(",")] + rows
        merged.sort(key=lambda item: list(ONNX_RECIPES).index(item["recipe"]))
        args.json.write_text(json.dumps(merged, indent=2) + "\n")


if __name__ == "__main__":
    main()
