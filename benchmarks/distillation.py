"""What distillation brings: students of the stand-ins against their teachers, and what their shapes cost at full size.

    python benchmarks/distillation.py WORK [--data ../shared/data] [--only encoder|finish|latency|language]
        [--steps N] [--json FILE]

- encoder: `medsiglip-mini` into a student of less than a quarter of the operations, beginning with the teacher's
  weights and from nothing, on the training images without their labels; each against the teacher on the three held-back
  test sets.
- finish: the student at int4 as it is, and after a finish with the rounding in place.
- latency: vision towers of base, small and tiny against the full one, random weights, ONNX Runtime fp32, in turns in one run.
- language: medgemma-mini into nine of its eighteen layers, on PubMedQA texts; perplexity on held-back ones.

What is already in WORK is not made again: delete it for a fresh run. About two hours on two cores. Stores what was run in
FILE, benchmarks/results/distillation.json if left out. --steps, which is for trying the script, trains encoders for N steps on
one view of 20 images of a label, and judges them on as many.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medge.export.distill.encoder import distill_medsiglip
from medge.export.distill.generator import distill_medgemma
from medge.export.distill.job import EncoderDistillation, GeneratorDistillation, PassOptions, TrainOptions
from medge.export.families.siglip import Reference
from medge.export.families.transformers_versions import vision_transformer
from medge.export.jobs.encoder import export_medsiglip, measure_bundle
from medge.export.jobs.encoder_job import ExportJob
from medge.export.pages.distillation import Distillation
from medge.export.source.samples import read_samples
from medge.export.source.student_files import FACTS
from medge.export.standin.medgemma_mini import write_medgemma_mini
from medge.export.standin.medsiglip.held_out import SETS, held_out_prompts
from medge.export.standin.public_data import write_calibration, write_folder
from medge.export.standin.write import FULL_CONFIG, write_medsiglip_mini
from medge.export.to_onnx.towers import export_tower
from medge.quant.distill.student import STUDENTS, operations, student_config
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.bundles.parity_report import EncoderReport
from medge.runtime.device.onnx_session import OrtSession

RESULTS = Path(__file__).parent / "results" / "distillation.json"
STUDENT, STEPS, VIEWS = "width=96,heads=3,depth=10", 1000, 2
TRIAL = 20  # images a label, where the script is tried
SEED = 0


@dataclass(frozen=True)
class Place:
    """Where the data lie and the work is done; with `trial`, encoders are trained for that many steps on a few images."""

    data: Path
    work: Path
    trial: int | None = None

    def images(self, part: str) -> tuple[Path, ...]:
        """The images of a part ("train" or "test") of every set, a folder each, in folders named by their labels."""
        folders = tuple(self.work / part / dataset for dataset in SETS)
        for folder in folders:
            if not folder.is_dir():
                write_folder(self.data, folder.name, part, folder, None if self.trial is None else TRIAL)
        return folders


def made(job: EncoderDistillation) -> Distillation:
    if not job.out.is_dir():
        start = time.perf_counter()
        distill_medsiglip(job)
        print(f"{job.out.name}: {time.perf_counter() - start:.0f} s", flush=True)
    return Distillation.from_json((job.out / FACTS).read_text())


def jobs(place: Place) -> dict[str, EncoderDistillation]:
    teacher = place.work / "medsiglip-mini"
    if not teacher.is_dir():
        write_medsiglip_mini(teacher)
    steps, views = (STEPS, VIEWS) if place.trial is None else (place.trial, 1)
    inherited = EncoderDistillation(
        teacher, place.work / "student", STUDENT, place.images("train"), views=views, work=place.work / "pass",
        training=TrainOptions(steps=steps, seed=SEED),
    )  # fmt: skip
    return {
        "inherited": inherited,
        "from scratch": replace(inherited, out=place.work / "scratch", inherit=False),
        # As long without rounding as the student, then the finish: the two differ by nothing else.
        "finished": replace(inherited, out=place.work / "finished", quantize="int4", quantize_steps=steps // 5),
    }


def against_teacher(bundle: Bundle, teacher: Path, place: Place) -> dict[str, dict[str, Any]]:
    rows = {}
    for folder in place.images("test"):
        samples = read_samples(folder, labelled=True)
        _, reports = measure_bundle(bundle, teacher, samples, prompts=held_out_prompts(folder.name))
        rows[folder.name] = row(reports["teacher"])
    return rows


def row(report: EncoderReport) -> dict[str, Any]:
    figures = asdict(report.figures)
    return {
        "centred_cosine": figures["vision"]["centred_cosine"],
        "text_centred_cosine": figures["text"]["centred_cosine"],
        "flips": report.figures.scores.flips, "status": report.verdict,
        **{key: figures["scores"][key] for key in ("accuracy", "auc", "accuracy_kept", "auc_kept")},
    }  # fmt: skip


def exported(checkpoint: Path, recipe: str, place: Place) -> Bundle:
    out = place.work / f"{checkpoint.name}-{recipe}"
    if not out.is_dir():
        calibration = place.work / "calibration"
        if not calibration.is_dir():
            write_calibration(place.data, calibration)
        export_medsiglip(ExportJob(checkpoint, out, recipe, calibration=calibration))
    return Bundle.open(out, allow_failed_parity=True)


def encoder(place: Place) -> dict[str, Any]:
    rows = {}
    for name in ("inherited", "from scratch"):
        job = jobs(place)[name]
        run = made(job)
        rows[name] = {
            "figures": run.figures, "facts": run.facts,
            "tests": against_teacher(exported(job.out, "fp32", place), job.teacher, place),
        }  # fmt: skip
        print(
            name,
            run.figures,
            {k: (v["accuracy_kept"], v["auc_kept"]) for k, v in rows[name]["tests"].items()},
            flush=True,
        )
    return {"student": STUDENT, "rows": rows}


def finish(place: Place) -> dict[str, Any]:
    all_jobs, rows = jobs(place), {}
    for name, key, recipe in (
        ("student, fp32", "inherited", "fp32"), ("student, int4", "inherited", "int4"),
        ("finished for int4, int4", "finished", "int4"),
    ):  # fmt: skip
        made(all_jobs[key])
        rows[name] = against_teacher(exported(all_jobs[key].out, recipe, place), all_jobs[key].teacher, place)
        print(name, {k: (v["centred_cosine"], v["text_centred_cosine"]) for k, v in rows[name].items()}, flush=True)
    return rows


def latency(place: Place) -> list[dict[str, Any]]:
    import torch
    from transformers import SiglipVisionConfig, SiglipVisionModel

    full = FULL_CONFIG["vision_config"]
    configs = {"full": full} | {name: student_config(STUDENTS[name], full) for name in ("base", "small", "tiny")}
    sessions, inputs = {}, {}
    for name, config in configs.items():
        torch.manual_seed(0)
        vision = SiglipVisionConfig(**config)
        vision._attn_implementation = "eager"
        tower = vision_transformer(SiglipVisionModel(vision)).eval().requires_grad_(False)
        path = place.work / f"{name}.onnx"
        export_tower(tower, Reference.signatures["vision"]).save(path)
        sessions[name] = OrtSession(path, device="cpu")
        side = config["image_size"]
        inputs[name] = np.random.default_rng(0).uniform(-1, 1, (1, 3, side, side)).astype(np.float32)
        del tower
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(5):
        for name, session in sessions.items():
            for _ in range(1 if name == "full" else 5):
                start = time.perf_counter()
                session.run(["pooler_output"], {"pixel_values": inputs[name]})
                times[name].append(time.perf_counter() - start)
    for leftover in place.work.glob("*.onnx*"):
        leftover.unlink()
    base = statistics.median(times["full"])
    return [
        {
            "tower": name, "side": configs[name]["image_size"], "operations": operations(configs[name]),
            "operations_ratio": operations(full) / operations(configs[name]), "seconds": statistics.median(values),
            "faster": base / statistics.median(values),
        }
        for name, values in times.items()
    ]  # fmt: skip


def language(place: Place) -> dict[str, Any]:
    work = place.work
    teacher, out = work / "medgemma-mini", work / "medgemma-half"
    if not teacher.is_dir():
        write_medgemma_mini(teacher)
    entries = json.loads((place.data / "pubmedqa" / "pqal.json").read_text())
    keys = sorted(entries)
    parts = {"held": keys[::8], "train": [key for number, key in enumerate(keys) if number % 8][:520]}
    for name, part in parts.items():
        texts = [
            " ".join([entries[key]["QUESTION"], *entries[key]["CONTEXTS"], entries[key].get("LONG_ANSWER", "")])
            for key in part
        ]
        (work / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    if not out.is_dir():
        distill_medgemma(
            GeneratorDistillation(
                teacher, out, "layers=9", (work / "train.jsonl",), (work / "held.jsonl",), length=192,
                data_pass=PassOptions(per_shard=64),
                training=TrainOptions(steps=400, batch=4, rate=4e-4, precision="bf16", save_every=50),
            )
        )  # fmt: skip
    run = Distillation.from_json((out / FACTS).read_text())
    print(run.figures, flush=True)
    return {"figures": run.figures, "facts": run.facts}


PARTS = {"encoder": encoder, "finish": finish, "latency": latency, "language": language}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    place = Place(arguments.data, arguments.work, arguments.steps)
    results: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    for name, part in PARTS.items():
        if not arguments.only or name in arguments.only:
            results[name] = part(place)
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
