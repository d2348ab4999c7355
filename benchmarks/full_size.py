"""Size, speed, memory, cold start of the full-size stand-in (878 M random weights), for docs/results/encoder-full-size.md.

    python benchmarks/full_size.py --work DIR [--rounds 3] [--json FILE] [--parts sizes,engines,task]

Needs about 14 GB of disk under --work, 24 GB of memory and an hour and a half on two cores. Everything that is compared runs in
turn, with the same number of threads. A ratio of times stands with its 95% interval; it is left out where the interval stays
wide or the processor's time says something else, as on a busy machine. What is measured once, a cold start, has no ratio.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from medge.export.families.full_precision import FullPrecision
from medge.export.families.siglip import Reference
from medge.export.source.checkpoint import Checkpoint
from medge.export.source.samples import builtin_samples
from medge.export.standin.write import write_medsiglip_mini, write_medsiglip_random
from medge.export.to_onnx.towers import export_tower, write_tower
from medge.quant.onnx_graph.apply import quantize
from medge.quant.recipes.onnx import ONNX_RECIPES
from medge.quant.recipes.recipe import golden_bound
from medge.runtime.bench.in_turns import Measured, bundle_command, compare
from medge.runtime.bundles.bundle import new_bundle
from medge.runtime.bundles.facts import Artefact
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.device.cpu import pick_target
from medge.runtime.device.memory import peak_memory
from medge.runtime.encoder.labels import LabelBank

LABELS = {name: [name] for name in ("abdomen CT", "chest x-ray", "head MRI")}
BENCHED = ("fp32", "int8", "int4")  # recipes whose vision tower is kept as a bundle, for timing


def make_bundles(checkpoint: Path, work: Path, recipes: list[str], say: Any) -> dict[str, int]:
    """Both towers by every recipe; returns bytes by recipe, leaves classify-only bundles of `BENCHED` under `work`."""
    reference = Reference(Checkpoint.open(checkpoint, "siglip"))
    full = FullPrecision(reference)
    samples = builtin_samples()
    samples = samples.only([0])  # random weights: what is calibrated on changes no size
    target, _ = pick_target()
    sizes = dict.fromkeys(recipes, 0)
    bank = LabelBank.build(LABELS, reference.embed_texts)
    model, preprocessing = reference.facts(), reference.preprocessing("eval-tf")
    signatures = reference.signatures
    configuration = {
        "config.json": reference.checkpoint.config, "preprocessor_config.json": reference.processor_config("eval-tf")
    }  # fmt: skip
    for tower in ("text", "vision"):
        say(f"exporting the {tower} tower")
        part = reference.tower(tower)
        graph = export_tower(part, signatures[tower])
        inputs = full.calibration_inputs(tower, samples, "eval-tf")[:1]
        if tower == "vision":
            del part, reference, full  # 3.5 GB that nothing needs any more
        for recipe in (ONNX_RECIPES[name] for name in recipes):
            say(f"{recipe.name}: {tower}")
            small, decisions = quantize(graph, recipe, target, inputs)
            with new_bundle(work / f"{tower}-{recipe.name}", force=True) as writer:
                golden = golden_bound(recipe, merged=False)
                facts = write_tower(
                    writer, tower, f"{tower}_model", recipe, small, decisions, signatures[tower], golden
                )
                sizes[recipe.name] += sum(path.stat().st_size for path in (writer.folder / "onnx").iterdir())
                if tower == "vision" and recipe.name in BENCHED:
                    for path, content in configuration.items():
                        writer.add(path, path.removesuffix("_config.json").removesuffix(".json")).write_text(
                            json.dumps(content)
                        )
                    bank.save(writer.add("labels.safetensors", "labels"))
                else:
                    for path in (writer.folder / "onnx").iterdir():
                        path.unlink()  # its size is known, and the disk is finite
                    writer = type(writer)(writer.folder)
                writer.finish(
                    Manifest(
                        kind="encoder", name=recipe.name, model=model, preprocessing=preprocessing, target=target.name,
                        source={"name": checkpoint.name, "sha256": {}}, artefacts={"onnx": Artefact({tower: facts})},
                        labels=tuple(LABELS),
                    )
                )  # fmt: skip
    return sizes


def engine(name: str, checkpoint: Path) -> list[str]:
    return [sys.executable, "-m", "medge.export.bench.engines", name, str(checkpoint), "1", "eval-tf"]


def table(title: str, results: list[Measured]) -> Table:
    out = Table(title=title)
    for column in ("engine", "cold start s", "image s", "CPU s", "time ratio", "peak MB", "ratio"):
        out.add_column(column, justify="left" if column == "engine" else "right")
    first = results[0]
    for item in results:
        out.add_row(
            item.name, f"{item.cold_start:.2f}", f"{item.median:.3f}", f"{item.facts()['cpu_seconds_median']:.3f}",
            item.told_beside(first), f"{item.peak_bytes / 1e6:.0f}", f"{item.peak_bytes / first.peak_bytes:.2f}",
        )  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("full-size-work"))
    parser.add_argument("--rounds", type=int, default=6, help="at least; fewer than six give no interval")
    parser.add_argument("--parts", default="sizes,engines,task")
    parser.add_argument(
        "--recipes",
        default=",".join(name for name, recipe in ONNX_RECIPES.items() if not recipe.merge_within),
        help="for the sizes; fp32 is always made",
    )
    parser.add_argument("--mini", action="store_true", help="the same with medsiglip-mini, to try the script")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console(width=120)
    checkpoint = args.work / ("medsiglip-mini" if args.mini else "medsiglip-random")
    if not checkpoint.exists():
        (write_medsiglip_mini if args.mini else write_medsiglip_random)(checkpoint)
    facts: dict[str, Any] = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}

    def record(name: str, value: Any) -> None:
        """Each part is written when it is done: an interruption loses the rest, not what was measured."""
        facts[name] = value
        if args.json:
            args.json.write_text(json.dumps(facts, indent=2) + "\n")

    if "sizes" in args.parts:
        recipes = list(dict.fromkeys(["fp32", *args.recipes.split(",")]))
        sizes = make_bundles(checkpoint, args.work, recipes, lambda text: console.print(text, style="dim"))
        out = Table("recipe", "both towers MB", "ratio to fp32", title=f"{checkpoint.name}: file size")
        for name, size in sizes.items():
            out.add_row(name, f"{size / 1e6:.1f}", f"{size / sizes['fp32']:.3f}")
        console.print(out)
        measured = {name: {"bytes": size, "ratio": size / sizes["fp32"]} for name, size in sizes.items()}
        record("export_peak_bytes", peak_memory())
        record("sizes", {**facts.get("sizes", {}), **measured})
    if "task" in args.parts:
        commands = {"transformers": engine("transformers", checkpoint)}
        kept = [name for name in ("int8", "int4") if (args.work / f"vision-{name}" / "onnx").is_dir()]
        commands |= {f"medge {name}": bundle_command(str(args.work / f"vision-{name}")) for name in kept}
        commands["medge int8 --fast"] = bundle_command(str(args.work / "vision-int8"), fast=True)
        results = compare(commands, rounds=args.rounds)
        console.print(table(f"{checkpoint.name}: classify with baked labels against transformers", results))
        record("task", [item.facts_beside(results[0]) for item in results])
    if "engines" in args.parts:
        fp32 = str(args.work / "vision-fp32")
        commands = {"medge fp32": bundle_command(fp32), "medge fp32 --fast": bundle_command(fp32, fast=True)}
        commands |= {name: engine(name, checkpoint) for name in ("pytorch", "optimum", "openvino")}
        results = compare(commands, rounds=args.rounds)
        # Cold start and memory are left out: the other workers make their own export first, which is not their task.
        out = Table("engine", "image s", "CPU s", "time ratio", title=f"{checkpoint.name}: vision tower in fp32")
        for item in results:
            cpu = item.facts()["cpu_seconds_median"]
            out.add_row(item.name, f"{item.median:.3f}", f"{cpu:.3f}", item.told_beside(results[0]))
        console.print(out)
        record("engines", [item.facts_beside(results[0]) for item in results])


if __name__ == "__main__":
    main()
