"""Every CoreML recipe on `medsiglip-mini` against PyTorch, and the evaluator's time at full size.

    python benchmarks/coreml_parity.py [--data ../shared/data] [--recipes w8,palette4] [--limit N] [--full-size DIR] [--json FILE]

Calibrated on training images, judged on the three held-back test sets; CoreML packages are computed by medge's evaluator,
since there is no CoreML here. --full-size makes the 878 M-parameter stand-in under DIR (12 GB of memory) and times its vision
package beside PyTorch in one run. Stores what was run in FILE, benchmarks/results/coreml_parity.json
if left out. --limit, which is for trying the script, takes N test images of a label.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from standin_parity import row

from medge.export.families.full_precision import FullPrecision
from medge.export.families.siglip import Reference
from medge.export.jobs.encoder import export_medsiglip, measure_artefact
from medge.export.jobs.encoder_job import ExportJob
from medge.export.source.checkpoint import Checkpoint
from medge.export.source.samples import builtin_samples, read_samples
from medge.export.standin.medsiglip.held_out import SETS, held_out_prompts
from medge.export.standin.public_data import write_calibration, write_folder
from medge.export.standin.write import write_medsiglip_mini, write_medsiglip_random
from medge.export.to_coreml.mil.evaluator import Program
from medge.export.to_coreml.options import PackageOptions
from medge.export.to_coreml.precision import selector
from medge.export.to_coreml.write import OUTPUT, convert, model_inputs, rewrite, save, trace
from medge.quant.recipes.coreml import COREML_RECIPES

RESULTS = Path(__file__).parent / "results" / "coreml_parity.json"


def measure_recipes(data: Path, recipes: list[str], limit: int | None) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_medsiglip_mini(place / "checkpoint")
        reference = Reference(Checkpoint.open(place / "checkpoint", "siglip"))
        calibration = write_calibration(data, place / "calibration")
        held_back = {
            dataset: read_samples(write_folder(data, dataset, "test", place / dataset, limit), labelled=True)
            for dataset in SETS
        }
        with FullPrecision(reference) as full:
            for recipe in recipes:
                job = ExportJob(
                    place / "checkpoint", place / recipe, recipe, formats=("coreml",), calibration=calibration
                )
                bundle, _ = export_medsiglip(job, full=full)
                towers = bundle.manifest.artefacts["coreml"].towers
                size = {tower: bundle.tower_bytes(facts) for tower, facts in towers.items()}
                for dataset in SETS:
                    words = held_out_prompts(dataset)
                    report = measure_artefact("coreml", bundle, full, held_back[dataset], prompts=words)
                    rows.append({**row(recipe, dataset, report), "bytes": size})
                print(f"{recipe}: {size}, {[item['status'] for item in rows[-3:]]}", flush=True)
    return rows


def time_full_size(folder: Path) -> dict[str, Any]:
    """Seconds an image of the fp16 vision package in the evaluator, and of PyTorch in fp32, in turns."""
    checkpoint = folder / "medsiglip-random"
    if not checkpoint.is_dir():
        write_medsiglip_random(checkpoint)
    reference = Reference(Checkpoint.open(checkpoint, "siglip"))
    side = reference.model.config.vision_config.image_size
    options = PackageOptions()
    start = time.perf_counter()
    module = rewrite(reference.model.vision_model, "vision", options)
    package = folder / "MedgeVision.mlpackage"
    if not package.is_dir():
        save(convert(trace(module, "vision", side, options), "vision", side, options, half=selector({})), package)
    made = time.perf_counter() - start
    del module
    start = time.perf_counter()
    program = Program(package)
    opened = time.perf_counter() - start
    batch = next(iter(builtin_samples().inputs("eval-tf", side, 1)))[:1]
    (item,) = model_inputs(program, [batch])
    times: dict[str, list[float]] = {"evaluator": [], "pytorch": []}
    for _ in range(3):
        for name, call in (
            ("evaluator", lambda: program.run([OUTPUT], item)),
            ("pytorch", lambda: reference.images(batch)),
        ):
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    medians = {f"{name}_seconds": statistics.median(values) for name, values in times.items()}
    return {**medians, "ratio": medians["evaluator_seconds"] / medians["pytorch_seconds"], "make_seconds": made,
            "open_seconds": opened,
            "package_bytes": sum(f.stat().st_size for f in package.rglob("*") if f.is_file())}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--recipes", default=",".join(COREML_RECIPES))
    parser.add_argument("--limit", type=int, help="test images a label; all if left out")
    parser.add_argument("--full-size", type=Path)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    stored: Path = arguments.json
    results: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {"rows": []}
    chosen = [name for name in arguments.recipes.split(",") if name]
    if chosen:
        kept = [item for item in results["rows"] if item["recipe"] not in chosen]
        order = list(COREML_RECIPES)
        rows = kept + measure_recipes(arguments.data, chosen, arguments.limit)
        results["rows"] = sorted(rows, key=lambda r: order.index(r["recipe"]))
        stored.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.full_size:
        arguments.full_size.mkdir(parents=True, exist_ok=True)
        results["full_size"] = time_full_size(arguments.full_size)
        stored.write_text(json.dumps(results, indent=1) + "\n")
        print(json.dumps(results["full_size"], indent=1))


if __name__ == "__main__":
    main()
