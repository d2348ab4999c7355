"""MedGemma's vision tower in llama.cpp and in ONNX Runtime, with similar patches merged: what it costs and brings.

    python benchmarks/image_tower.py [--data ../shared/data] [--full-size DIR | --only-full-size DIR]

On medgemma-mini, everything in full precision, so that merging alone is seen: how far the tokens of an image are from PyTorch's,
how far the next words after them, and what becomes of the questions that the stand-in was trained for, on held-back images; and
for the recipes, how much they merge by themselves. --full-size makes a tower of MedGemma 4B's size (random weights, one layer of
language model) under DIR and times an image in each, every engine in a process of its own, in turns, with the same number of
threads; a ratio of times stands with its 95% interval, or not at all where that stays wide. Stores what was run in
benchmarks/results/image_tower.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from generator_parity import contexts, write_images
from PIL import Image

from medge.export.families.gemma3 import open_gemma
from medge.export.families.generator_reference import GeneratorReference
from medge.export.families.token_merging import tokens_after
from medge.export.format import Projecting
from medge.export.jobs.generator import export_medgemma
from medge.export.jobs.generator_job import GeneratorJob
from medge.export.parity.divergence import CachedLogits
from medge.export.parity.generator import Material, measure_generator
from medge.export.source.corpus import Choice
from medge.export.source.samples import builtin_samples, read_samples
from medge.export.standin.medgemma_mini import write_medgemma_mini
from medge.export.standin.medgemma_random import write_medgemma_4b_random
from medge.export.standin.public_data import Example, mednist, vqa_rad
from medge.export.standin.train_medgemma_projector import KIND, KINDS, ORGAN
from medge.export.to_gguf.projector import write_projector_file
from medge.export.to_gguf.write import write_language
from medge.export.to_onnx.image_tokens import write_image_tokens
from medge.quant.recipes.gguf import PROJECTOR_RECIPES
from medge.quant.recipes.onnx import ONNX_RECIPES
from medge.runtime.bench.in_turns import Measured, compare
from medge.runtime.bundles.bundle import BundleWriter
from medge.runtime.device.cpu import pick_target
from medge.runtime.generator.load import load
from medge.runtime.progress import no_progress

RESULTS = Path(__file__).parent / "results" / "image_tower.json"
BASE = "q8_0"  # what the others are timed against
MERGED = (0, 2, 4, 6, 8, 10, 12, 14)  # of the stand-in's 196 patches, 14 a block leave 28 after its 12 blocks
FULL: tuple[tuple[str, int], ...] = (
    ("q8_0", 0), ("f16", 0), ("fp32", 0), ("int8", 0), ("int8", 40), ("int8", 75), ("int8", 113), ("int4", 75),
)  # fmt: skip
_WORKER = """
import sys
from pathlib import Path
from medge.runtime.bench.worker import serve
from medge.runtime.generator.engine import Engine
from medge.runtime.generator.prompt import Picture
from medge.runtime.golden.phantom import phantom
from medge.runtime.pictures.preprocess import get_profile
engine = Engine(Path(sys.argv[1]), Path(sys.argv[2]), context=512)
picture = Picture.of(get_profile("finetune-pil").resize(phantom(), 896), 256)

def run():
    engine.forget()
    engine.image_embedding(picture)

serve(run)
"""


def sweep(data: Path) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        checkpoint = place / "medgemma-mini"
        write_medgemma_mini(checkpoint)
        images = read_samples(write_images(data, "test", 16, place / "test"))
        kinds = {word: number for number, word in enumerate(sorted(set(KINDS.values())))}
        parts = sorted({example.facts["part"] for example in vqa_rad(data, "test")})
        tasks = {
            "kind": choices(
                ((e, KINDS[e.label]) for e in list(mednist(data, "test"))[::12]), KIND[0], list(kinds), place
            ),
            "organ": choices(((e, e.facts["part"]) for e in vqa_rad(data, "test")), ORGAN[0], parts, place),
        }
        material = Material(contexts(data, 600, 601), images, tasks)
        (place / "logits").mkdir()
        logits = CachedLogits(GeneratorReference(checkpoint), place / "logits")
        rows = []
        for recipe, merged in [*(("fp32", count) for count in MERGED), ("fast", None), ("turbo", None)]:
            name = recipe if merged is None else f"fp32, {merged}"
            out = place / "bundle"
            job = GeneratorJob(
                checkpoint, out, f"language=f16,projector={recipe}", merge=merged, skip_parity=True, force=True
            )
            bundle, _ = export_medgemma(job)
            generator = load(out, allow_failed_parity=True, context=1024)
            report = measure_generator(generator, logits, material)
            generator.close()
            decisions = bundle.manifest.towers["projector"].decisions
            image = report.figures.image
            assert image is not None
            rows.append(
                {
                    "recipe": recipe, "merged": decisions.get("merged_tokens_a_block", 0),
                    "tokens_left": decisions.get("tokens_left", 64), "centred": asdict(image.centred_cosine),
                    "kld": image.kld.mean, "same_top": image.same_top, "status": report.verdict,
                    "tasks": {
                        task: {
                            "flips": found.flips, "bundle": found.accuracy.bundle.value,
                            "reference": found.accuracy.reference.value, "items": found.items,
                        } for task, found in report.figures.tasks.items()
                    },
                }
            )  # fmt: skip
            print(f"{name}: {json.dumps(rows[-1])}", flush=True)
        return rows


def choices(
    examples: Iterable[tuple[Example, str]], question: str, options: list[str], place: Path
) -> list[Choice]:  # fmt: skip
    made = []
    for example, answer in examples:
        path = place / f"{example.name.replace('/', '-')}.png"
        Image.fromarray(np.asarray(example.image)).save(path)
        made.append(Choice(question, tuple(options), options.index(answer), path))
    return made


def full_size(folder: Path, only: list[str]) -> list[dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, language = folder / "tower-4b", folder / "language.gguf"
    if not checkpoint.is_dir():
        write_medgemma_4b_random(checkpoint, layers=1)
    opened = open_gemma(checkpoint)
    if not language.is_file():
        write_language(opened, language, "f16")
    # One image: with random weights, what calibration decides changes no time.
    samples = builtin_samples().only([0])
    target, _ = pick_target()
    files: dict[tuple[str, int], Path] = {}
    for recipe, merged in FULL:
        if recipe not in {*only, BASE}:
            continue
        kept = folder / f"{recipe}-{merged}{'.gguf' if recipe in PROJECTOR_RECIPES else '.onnx'}"
        files[recipe, merged] = kept
        if kept.is_file():
            continue
        if recipe in PROJECTOR_RECIPES:
            write_projector_file(opened, kept, PROJECTOR_RECIPES[recipe])
            continue
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            making = Projecting(opened, BundleWriter(Path(scratch)), target, samples, None, merged, recipe, no_progress)
            facts = write_image_tokens(making, ONNX_RECIPES[recipe])
            shutil.move(Path(scratch) / facts.file, kept)
        print(f"{recipe}, {merged} merged: written", flush=True)
    # In turns of two, an engine against llama.cpp's q8_0 each time: more do not fit into memory.
    command = [sys.executable, "-c", _WORKER, str(language)]
    base, rows = [*command, str(files[BASE, 0])], []
    for (recipe, merged), path in files.items():
        if recipe not in only:
            continue
        baseline, tower = compare({BASE: base, f"{recipe}, {merged} merged": [*command, str(path)]}, rounds=6)
        rows.append(
            {
                "recipe": recipe, "merged": merged, "tokens_left": tokens_after(4096, 27, merged)[-1],
                "engine": "llama.cpp" if path.suffix == ".gguf" else "ONNX Runtime",
                "bytes": path.stat().st_size, **timed_beside(tower, baseline),
                "peak_bytes_beside": tower.peak_bytes - language.stat().st_size,
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def timed_beside(tower: Measured, baseline: Measured) -> dict[str, Any]:
    facts = tower.facts_beside(baseline)
    kept = {"seconds": "latency_seconds_median", "cpu_seconds": "cpu_seconds_median"}
    return {name: facts[key] for name, key in kept.items()} | {
        key: facts[key] for key in ("rounds", "threads", "time_ratio")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--full-size", type=Path)
    parser.add_argument("--only-full-size", type=Path)
    parser.add_argument("--towers", nargs="*", default=[recipe for recipe, _ in FULL], help="Time these only.")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not arguments.only_full_size:
        results["mini"] = sweep(arguments.data)
    if folder := arguments.only_full_size or arguments.full_size:
        # What --towers left out stays as it was measured before.
        rows = {(row["recipe"], row["merged"]): row for row in results.get("full_size", [])}
        rows |= {(row["recipe"], row["merged"]): row for row in full_size(folder, arguments.towers)}
        results["full_size"] = [rows[tower] for tower in FULL if tower in rows]
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
