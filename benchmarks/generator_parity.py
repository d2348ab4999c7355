"""Measure medgemma-mini by every recipe on public data that calibration never saw; about 50 minutes on two cores.

python benchmarks/generator_parity.py [--data ../shared/data] [--recipes q4_k_m ...]

Prints and stores, in benchmarks/results/generator_parity.json: the distance of each recipe from PyTorch beside that of
llama.cpp's quantizer without a matrix, with a matrix from general text beside one from medical text and images for
q4_k_m, the answers to MedQA, PubMedQA and VQA-RAD questions, and what each projector recipe costs.
Calibration: PubMedQA's first 150 items and 40 VQA-RAD training images. Measured on: items from the 600th on, and
VQA-RAD's held-back images. The joint page is left in the folder that --keep names. --rejudge measures nothing: it holds the
stored figures against the gates as they are now.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import pydoc_data.topics
import shutil
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medge.export.families.gemma3 import open_gemma
from medge.export.families.generator_reference import GeneratorReference
from medge.export.jobs.calibrate import calibrate
from medge.export.jobs.generator import export_medgemma
from medge.export.jobs.generator_job import GeneratorJob
from medge.export.pages.parity import render_parity
from medge.export.parity.divergence import CachedLogits
from medge.export.parity.generator import Material, gates_of, measure_generator
from medge.export.source.corpus import CHUNK, Choice, json_lines, read_corpus, text_prompts
from medge.export.source.samples import read_samples
from medge.export.standin.medgemma_mini import write_medgemma_mini
from medge.export.standin.public_data import vqa_rad
from medge.export.to_gguf.projector import write_projector_file
from medge.export.to_gguf.write import write_projector
from medge.quant.gguf_file.importance import Importance, gather
from medge.quant.gguf_file.inputs import CalibrationRun
from medge.quant.gguf_file.quantize import quantize_language
from medge.quant.onnx_graph.pad import MULTIPLE
from medge.quant.recipes.gguf import GGUF_RECIPES, PROJECTOR_RECIPES
from medge.runtime.bundles.figures import GeneratorFigures
from medge.runtime.bundles.gates import tell
from medge.runtime.bundles.metrics import centred_cosine, cosine
from medge.runtime.bundles.parity_report import judge, verdict
from medge.runtime.bundles.typed_json import build
from medge.runtime.generator.engine import Engine
from medge.runtime.generator.load import load
from medge.runtime.generator.prompt import Item, Picture
from medge.runtime.pictures.preprocess import get_profile

RESULTS = Path(__file__).parent / "results" / "generator_parity.json"
TEXT_PROMPTS, IMAGES, ITEMS = 4, 16, 40


def contexts(data: Path, start: int, stop: int) -> list[str]:
    entries = list(json.loads((data / "pubmedqa" / "pqal.json").read_text()).values())
    return [" ".join(entry["CONTEXTS"]) for entry in entries[start:stop]]


def write_images(data: Path, split: str, count: int, out: Path) -> Path:
    out.mkdir()
    for number, example in zip(range(count), vqa_rad(data, split), strict=False):
        Image.fromarray(example.image).save(out / f"{number:03d}.png")
    return out


def tasks(data: Path, place: Path, count: int) -> dict[str, list[Choice]]:
    """MedQA by letter, PubMedQA by yes/no/maybe, VQA-RAD's closed questions by yes/no; nothing of them was trained on."""

    def by_letter(body: dict[str, Any]) -> Choice:
        letters = tuple(body["options"])
        question = body["question"] + "\nAnswer with the letter of the right option."
        return Choice(question, letters, letters.index(body["answer"]))

    lines = json_lines(data / "medqa" / "test.jsonl", '{"question", "options", "answer"}', by_letter)
    medqa = list(itertools.islice(lines, count))
    pubmedqa = []
    for entry in list(json.loads((data / "pubmedqa" / "pqal.json").read_text()).values())[700 : 700 + count]:
        question = " ".join(entry["CONTEXTS"]) + f"\n{entry['QUESTION']} Answer yes, no or maybe."
        options = ("yes", "no", "maybe")
        pubmedqa.append(Choice(question, options, options.index(entry["final_decision"])))
    held_back = {example.name: example.image for example in vqa_rad(data, "test")}
    closed = []
    for entry in json.loads((data / "vqa_rad" / "qa.json").read_text()):
        answer = str(entry["answer"]).strip().lower()
        if entry["image_name"] in held_back and answer in ("yes", "no") and len(closed) < count:
            path = place / f"task-{entry['image_name']}.png"
            Image.fromarray(held_back[entry["image_name"]]).save(path)
            closed.append(Choice(entry["question"] + " Answer yes or no.", ("yes", "no"), int(answer == "no"), path))
    return {"MedQA": medqa, "PubMedQA": pubmedqa, "VQA-RAD closed": closed}


def projectors(checkpoint_folder: Path, language: Path, images: Any, place: Path) -> list[dict[str, Any]]:
    """Each projector recipe's size, and the cosine of its image tokens with PyTorch's; and that padding is exact."""
    checkpoint, reference = open_gemma(checkpoint_folder), GeneratorReference(checkpoint_folder)
    side = checkpoint.config["vision_config"]["image_size"]
    resize = get_profile("finetune-pil").resize
    pictures = [Picture.of(resize(image, side), checkpoint.config["mm_tokens_per_image"]) for image in images.images]

    def embed(path: Path) -> Any:
        with Engine(language, path, context=512) as engine:
            return np.concatenate([engine.image_embedding(picture) for picture in pictures])

    exact = np.concatenate([reference.image_embedding(picture) for picture in pictures])
    padded = place / "padded.gguf"
    write_projector(checkpoint, padded, "f32", pad=True)
    rows, plain = [], None
    for name, recipe in PROJECTOR_RECIPES.items():
        path = place / f"mmproj-{name}.gguf"
        write_projector_file(checkpoint, path, recipe)
        ours = embed(path)
        plain = ours if name == "f32" else plain
        raw, centred = cosine(exact, ours), centred_cosine(exact, ours)
        rows.append({"recipe": name, "bytes": path.stat().st_size, "cosine": float(raw.mean()), "cosine_min": float(raw.min()),
                     "centred_cosine": float(centred.mean()), "centred_cosine_min": float(centred.min())})  # fmt: skip
    assert plain is not None
    rows.append({"recipe": f"f32, MLP padded to a multiple of {MULTIPLE}", "bytes": padded.stat().st_size,
                 "max_error_to_unpadded": float(np.abs(embed(padded) - plain).max())})  # fmt: skip
    return rows


def matrices(full: Path, medical: Path, data: Path) -> dict[str, Importance]:
    """The medical matrix, and two that are gathered on as many prompts: of general text, and of the medical text alone."""
    found = {"medical": Importance.load(medical)}
    count = found["medical"].chunks
    general = [str(pydoc_data.topics.topics[key]) for key in sorted(pydoc_data.topics.topics)]
    for name, texts in (("general", general), ("medical, text only", contexts(data, 0, 150))):

        def prompts(engine: Engine, texts: list[str] = texts) -> list[list[Item]]:
            return [list(prompt) for prompt in text_prompts(engine.tokenize, texts, 2)[:count]]

        found[name] = gather(CalibrationRun(full, None, prompts))
    return found


def compare_matrices(
    matrices: dict[str, Importance], bundle: Path, full: Path, material: Material, logits: CachedLogits, place: Path
) -> dict[str, Any]:  # fmt: skip
    """The figures on text of q4_k_m with each matrix, in the place of the bundle's own file."""
    figures = {}
    for which, matrix in matrices.items():
        quantize_language(full, place / "other.gguf", GGUF_RECIPES["q4_k_m"], importance=matrix)
        swapped = load(bundle, verify=False, allow_failed_parity=True, context=2048)
        language = bundle / swapped.manifest.towers["language"].file
        mine = Path(shutil.copy(language, place / "mine.gguf"))
        shutil.copy(place / "other.gguf", language)
        figures[which] = asdict(measure_generator(swapped, logits, material).figures.text)
        swapped.close()
        shutil.copy(mine, language)
    return figures


def rejudge() -> None:
    """Hold the stored figures against today's gates. Rows of before there were intervals are judged without them."""
    stored = json.loads(RESULTS.read_text())
    fields = {field.name for field in dataclasses.fields(GeneratorFigures)}
    for row in stored["rows"]:
        figures: GeneratorFigures = build(GeneratorFigures, {name: row[name] for name in fields if name in row})
        made = {"language": row["recipe"], "projector": GGUF_RECIPES[row["recipe"]].projector}
        row["status"] = verdict(judge(figures, gates_of(made)))
        print(f"{row['recipe']}: {row['status']}", *tell(judge(figures, gates_of(made))), sep="\n  ")
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--recipes", nargs="*", default=list(GGUF_RECIPES))
    parser.add_argument("--keep", type=Path, help="Leave the bundles and pages here.")
    parser.add_argument("--rejudge", action="store_true")
    arguments = parser.parse_args()
    if arguments.rejudge:
        rejudge()
        return
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        checkpoint = place / "medgemma-mini"
        write_medgemma_mini(checkpoint)
        calibration = place / "calibration"
        write_images(arguments.data, "train", 40, calibration)
        texts = calibration / "pubmedqa.jsonl"
        texts.write_text("\n".join(json.dumps({"text": text}) for text in contexts(arguments.data, 0, 150)))
        (place / "opened").mkdir()
        medical = place / "medical.gguf"
        began = time.monotonic()
        calibrate(open_gemma(checkpoint), read_corpus([calibration]), scratch=place / "opened", out=medical)
        print(f"matrix from medical text and images: {time.monotonic() - began:.0f} s", flush=True)
        images = read_samples(write_images(arguments.data, "test", IMAGES, place / "test"))
        material = Material(contexts(arguments.data, 600, 640), images, tasks(arguments.data, place, ITEMS))
        full = place / "opened" / "full.gguf"
        with Engine(full, context=512) as engine:
            ends = np.cumsum([len(engine.tokenize(f"{text.strip()}\n\n")) for text in material.texts])
            fitting = int((ends <= TEXT_PROMPTS * (CHUNK - 1)).sum())  # whole texts: intervals resample them
            material = replace(material, texts=material.texts[:fitting])
        (place / "logits").mkdir()
        logits = CachedLogits(GeneratorReference(checkpoint), place / "logits")
        rows, reports = [], []
        for name in arguments.recipes:
            began = time.monotonic()
            out = (arguments.keep or place) / f"mini-{name}"
            export_medgemma(GeneratorJob(checkpoint, out, name, importance=medical, skip_parity=True, force=True))
            generator = load(out, allow_failed_parity=True, context=2048)
            baseline = None
            if GGUF_RECIPES[name].importance:
                baseline = place / "plain.gguf"
                quantize_language(full, baseline, GGUF_RECIPES[name])
            made = (lambda path=baseline: path) if baseline is not None else None
            report = measure_generator(generator, logits, material, baseline=made)
            generator.close()
            reports.append(report)
            row = {"recipe": name, "status": report.verdict, **asdict(report.figures)}
            if name == "q4_k_m":
                others = matrices(full, medical, arguments.data)
                bare = replace(material, images=None, tasks=None)
                row["matrices"] = compare_matrices(others, out, full, bare, logits, place)
            rows.append(row)
            kld = report.figures.text.kld
            ratio = f", {kld.ratio_to_plain:.2f} of plain" if kld.ratio_to_plain is not None else ""
            print(f"{name}: KLD {kld.mean:.5f}{ratio}, {report.verdict}, {time.monotonic() - began:.0f} s", flush=True)
        result = {"rows": rows, "projectors": projectors(checkpoint, full, images, place), "images": len(images)}
        if RESULTS.is_file():  # what --recipes left out stays as it was measured before
            before = {row["recipe"]: row for row in json.loads(RESULTS.read_text())["rows"]}
            before |= {row["recipe"]: row for row in rows}
            result["rows"] = [before[name] for name in GGUF_RECIPES if name in before]
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        if arguments.keep:
            (arguments.keep / "joint.html").write_text(render_parity(reports[-1], reports[:-1]), encoding="utf-8")
    print(json.dumps(result["projectors"], indent=1))


if __name__ == "__main__":
    main()
