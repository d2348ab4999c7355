"""What a finish takes off the distance of rounded language models from full precision, at the same size; and what it costs.

python benchmarks/finish.py [--data ../shared/data] [--recipes iq2_xs ...] [--steps 100] [--tokens 2000]

medgemma-mini, its stream widened to 768 channels, is rounded and compensated as `medge export` does it, and then finished as
`medge distill finish` does it: factors of its blocks' scales and of its norms are trained. Each file is held against the 16-bit
one by llama.cpp. Learned on: PubMedQA's abstracts 60 to 360, questions of MedMCQA, questions about VQA-RAD's training images.
Judged on: PubMedQA's abstracts from the 700th on, MedQA's questions, radiology reports, other text (Python's manual),
and reports behind VQA-RAD's held-back images. The learning rate was tried once, on 115 abstracts and questions of those learned
on, and taken. Beside them stands what llama.cpp's quantizer makes with llama.cpp's own matrix, gathered on the same prompts.
Stores benchmarks/results/finish.json after each recipe, beside what it holds of others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pydoc_data.topics
import shutil
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from compensation import Measured, held_back, plain_squares, reports, said
from generator_parity import contexts, write_images

from medge.export.distill.finish import finish
from medge.export.distill.job import Finish, PassOptions, TrainOptions
from medge.export.families.gemma3 import open_gemma
from medge.export.jobs.calibrate import calibration_run
from medge.export.parity.divergence import Divergence
from medge.export.source.checkpoint import Checkpoint
from medge.export.source.corpus import read_corpus
from medge.export.standin.medgemma_mini import write_medgemma_mini
from medge.export.standin.public_data import vqa_rad
from medge.export.to_gguf.write import write_language
from medge.quant.gguf_file.compensate import compensate
from medge.quant.gguf_file.importance import gather
from medge.quant.gguf_file.moments import Moments
from medge.quant.gguf_file.quantize import quantize_language
from medge.quant.gguf_file.sensitivity import Sensitivity, size_of
from medge.quant.recipes.gguf import GGUF_RECIPES
from medge.runtime.device.gguf_header import read_header
from medge.runtime.generator.engine import BATCH, Engine
from medge.runtime.generator.prompt import Item, Picture

RESULTS = Path(__file__).parent / "results" / "finish.json"
RIVAL = "llama.cpp's matrix"
RECIPES = ("iq2_xs", "q3_k_m", "small-3.0", "q4_k_m")
ABSTRACTS, QUESTIONS, ABOUT_IMAGES, CALIBRATION = (60, 360), 300, 100, 60
IMAGES, REPORT = 24, 48  # held back; tokens of a report behind each


class WithImages:
    """Full precision's logits behind images, and how far a file is from them."""

    def __init__(self, checkpoint: Checkpoint, full: Path, data: Path, place: Path) -> None:
        corpus = read_corpus([write_images(data, "test", IMAGES, place / "held-back")])
        run = calibration_run(checkpoint, corpus, full=full, scratch=place)
        self.projector = run.projector
        self.prompts: list[tuple[list[Item], Any]] = []
        with Engine(full, self.projector, context=BATCH, measuring=True) as engine:
            texts = reports(data, 900, 900 + 2 * IMAGES)
            for items, text in zip([items for items in run.prompts(engine) if _sees(items)], texts, strict=False):
                behind = engine.tokenize(text)[:REPORT]
                prompt = [*items, *behind]
                self.prompts.append((prompt, engine.logits(prompt)[-len(behind) : -1].astype(np.float16)))

    def of(self, path: Path) -> dict[str, Any]:
        found = Divergence.empty()
        with Engine(path, self.projector, context=BATCH, measuring=True) as engine:
            for number, (items, exact) in enumerate(self.prompts):
                count = len(exact)
                following = [item for item in items[-count:] if not isinstance(item, Picture)]
                rows = engine.logits(items)[-count - 1 : -1]
                found.add(exact.astype(np.float32), rows, following, 0, [number] * count)
        return said(found)


def _sees(items: list[Item]) -> bool:
    return any(isinstance(item, Picture) for item in items)


def examples(data: Path, place: Path) -> Path:
    """What is learned from, as JSON lines."""
    rows: list[dict[str, Any]] = [{"text": text} for text in contexts(data, *ABSTRACTS)]
    with (data / "medmcqa" / "dev.jsonl").open(encoding="utf-8") as lines:
        for body in map(json.loads, itertools.islice(lines, QUESTIONS)):
            options = " ".join(f"{letter.upper()}. {body['op' + letter]}" for letter in "abcd")
            rows.append({"text": f"{body['question']} {options}"})
    asked = {entry["image_name"]: entry for entry in json.loads((data / "vqa_rad" / "qa.json").read_text())}
    for example in itertools.islice(vqa_rad(data, "train"), ABOUT_IMAGES):
        entry, image = asked[example.name], str(data / "vqa_rad" / "images" / example.name)
        rows.append({"question": entry["question"], "answer": str(entry["answer"]), "image": image})
    path = place / "examples.jsonl"
    # Every kind in each part of the file, so that what is held back of it is of all.
    mixed = [rows[number] for number in sorted(range(len(rows)), key=lambda number: number * 0.618034 % 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in mixed), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1].parent / "shared" / "data")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, choices=list(GGUF_RECIPES))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=2000, help="of each kind of text")
    parser.add_argument("--work", type=Path, required=True, help="a folder of some gigabytes; it is kept, to go on in")
    arguments = parser.parse_args()
    measure(arguments, arguments.work)


def tell(what: str, done: int, of: int) -> None:
    print(f"\r{what} {done}/{of}   ", end="", flush=True)


def measure(arguments: argparse.Namespace, place: Path) -> None:
    place.mkdir(exist_ok=True)
    data, full = arguments.data, place / "full.gguf"
    if not (place / "mini").exists():
        write_medgemma_mini(place / "mini", width=768)
    checkpoint = open_gemma(place / "mini")
    write_language(checkpoint, full, "bf16")
    learned = examples(data, place)
    rounded(arguments, place, checkpoint)
    for folder in ("held-back", "scratch"):
        shutil.rmtree(place / folder, ignore_errors=True)
    texts = held_back(data) | {"not medical": list(pydoc_data.topics.topics.values())}
    measured = Measured(full, texts, arguments.tokens)
    seen = WithImages(checkpoint, full, data, place)
    for name in arguments.recipes:
        rows: list[dict[str, Any]] = []
        rival, before, after = (place / f"{name}{which}.gguf" for which in ("-rival", "", "-finished"))
        shutil.copyfile(before, after)
        training = TrainOptions(steps=arguments.steps, batch=8, rate=1e-3, precision="bf16", save_every=25, cpu=True)
        job = Finish(
            place / "bundle", place / "out", place / "mini", (learned,), training=training, work=place / "work" / name,
            data_pass=PassOptions(per_shard=32),
        )  # fmt: skip
        for shards in ("tokens", "held-back"):  # the checkpoint answers once for all recipes
            (place / "work" / name).mkdir(parents=True, exist_ok=True)
            (place / "work" / shards).mkdir(exist_ok=True)
            if not (link := place / "work" / name / shards).is_symlink():
                link.symlink_to(place / "work" / shards)
        whole = not (place / "work" / name / "train").exists()  # of a run that goes on the time says nothing
        began, cpu = time.monotonic(), time.process_time()
        result, _ = finish(job, checkpoint, after, tell)
        took, cpu = time.monotonic() - began, time.process_time() - cpu
        for rounding, path in ((RIVAL, rival), ("compensated", before), ("finished", after)):
            if not path.exists():  # llama.cpp has no mixture for a number of bits
                continue
            figures = {**measured.of(path), "reports behind images": seen.of(path)}
            rows.append({
                "recipe": name, "rounding": rounding, "bytes": path.stat().st_size,
                "bits": read_header(path).bits_per_weight(), "held_back": figures,
            })  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
        rows[-1] |= {
            **({"seconds": took, "cpu_seconds": cpu} if whole else {}),
            "steps": arguments.steps, "factors": result.facts["factors"], "examples": result.facts["examples"],
            "figures": result.figures,
        }  # fmt: skip
        keep(name, rows)


def keep(name: str, rows: list[dict[str, Any]]) -> None:
    """Store a recipe's rows beside those of others."""
    stored = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    both = [*(row for row in stored if row["recipe"] != name), *rows]
    both.sort(key=lambda row: RECIPES.index(row["recipe"]))
    facts = {"date": date.today().isoformat(), "width": 768, "abstracts": CALIBRATION, "rows": both}
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def rounded(arguments: argparse.Namespace, place: Path, checkpoint: Checkpoint) -> None:
    """Write the files that are not there: those that medge's export writes, and llama.cpp's own with its own matrix."""
    missing = [name for name in arguments.recipes if not (place / f"{name}.gguf").exists()]
    rivals = [name for name in arguments.recipes if GGUF_RECIPES[name].bits is None]
    rivals = [name for name in rivals if not (place / f"{name}-rival.gguf").exists()]
    if not missing and not rivals:
        return
    full, scratch = place / "full.gguf", place / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "moments").mkdir(parents=True)
    (scratch / "text.txt").write_text("\n\n".join(contexts(arguments.data, 0, CALIBRATION)), encoding="utf-8")
    corpus = read_corpus([scratch / "text.txt", write_images(arguments.data, "train", 40, scratch / "images")])
    run = calibration_run(checkpoint, corpus, full=full, scratch=scratch)
    if rivals:
        squares = plain_squares(run)
        for name in rivals:
            quantize_language(full, place / "one.gguf", GGUF_RECIPES[name], importance=squares)
            (place / "one.gguf").rename(place / f"{name}-rival.gguf")
    if not missing:
        return
    moments = Moments(run, scratch / "moments")
    matrix = gather(run, moments=moments)
    sensitivity = Sensitivity(full, matrix, corpus.texts, scratch, moments=moments)
    for name in missing:
        recipe = GGUF_RECIPES[name]
        types = sensitivity.types(size_of(full, recipe.bits)) if recipe.bits is not None else {}
        quantize_language(full, place / "one.gguf", recipe, importance=matrix, types=types)
        compensate(place / "one.gguf", moments)
        (place / "one.gguf").rename(place / f"{name}.gguf")


if __name__ == "__main__":
    main()
