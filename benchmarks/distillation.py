"""What distillation brings: students of the stand-ins against their teachers, and what their shapes cost at full size.

    python benchmarks/distillation.py WORK [--data ../shared/data] [--only encoder|finish|latency|language]

- encoder: the six-block stand-in into a student of less than a quarter of the operations, beginning with the teacher's
  weights and from nothing, on the training images without their labels; each against the teacher on the three held-back
  test sets.
- finish: the student at int4 as it is, and after a finish with the rounding in place.
- latency: vision towers of base, small and tiny against the full one, random weights, ONNX Runtime fp32, in turns in one run.
- language: medgemma-mini into nine of its eighteen layers, on PubMedQA texts; perplexity on held-back ones.

What is already in WORK is not made again: delete it for a fresh run. About an hour on two cores. Stores what was run in
benchmarks/results/distillation.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, replace
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
from medge.export.standin.public_data import write_calibration, write_folder
from medge.export.standin.six_blocks.captions import ZERO_SHOT, prompts
from medge.export.standin.six_blocks.write import write_six_blocks
from medge.export.standin.write import FULL_CONFIG
from medge.export.to_onnx.towers import export_tower
from medge.quant.distill.student import STUDENTS, operations, student_config
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.bundles.parity_report import EncoderReport
from medge.runtime.device.onnx_session import OrtSession

RESULTS = Path(__file__).parent / "results" / "distillation.json"
STUDENT, STEPS, VIEWS = "width=96,heads=3,depth=5", 1000, 4
SEED = 0


def archive(data: Path, work: Path) -> tuple[Path, ...]:
    """The training images in one folder a source; their labels are the names of folders that nothing reads."""
    folders = tuple(work / "images" / name for name in ("mednist", "pneumoniamnist", "vqa_rad"))
    for folder in folders:
        if not folder.is_dir():
            write_folder(data, folder.name, "train", folder)
    return folders


def made(job: EncoderDistillation) -> Distillation:
    if not job.out.is_dir():
        start = time.perf_counter()
        distill_medsiglip(job)
        print(f"{job.out.name}: {time.perf_counter() - start:.0f} s", flush=True)
    return Distillation.from_json((job.out / FACTS).read_text())


def jobs(data: Path, work: Path) -> dict[str, EncoderDistillation]:
    teacher = work / "six-blocks"
    if not teacher.is_dir():
        write_six_blocks(teacher)
    inherited = EncoderDistillation(
        teacher, work / "student", STUDENT, archive(data, work), views=VIEWS, work=work / "pass",
        training=TrainOptions(steps=STEPS, seed=SEED),
    )  # fmt: skip
    return {
        "inherited": inherited,
        "from scratch": replace(inherited, out=work / "scratch", inherit=False),
        # As long without rounding as the student, then the finish: the two differ by nothing else.
        "finished": replace(inherited, out=work / "finished", quantize="int4", quantize_steps=200),
    }


def against_teacher(bundle: Bundle, teacher: Path, data: Path, work: Path) -> dict[str, dict[str, Any]]:
    rows = {}
    for dataset, classes in ZERO_SHOT.items():
        folder = work / "test" / dataset
        if not folder.is_dir():
            write_folder(data, dataset, "test", folder)
        words = {label: prompts(facts) for label, facts in classes.items()}
        _, reports = measure_bundle(bundle, teacher, read_samples(folder, labelled=True), prompts=words)
        rows[dataset] = row(reports["teacher"])
    return rows


def row(report: EncoderReport) -> dict[str, Any]:
    figures = asdict(report.figures)
    return {
        "centred_cosine": figures["vision"]["centred_cosine"],
        "text_centred_cosine": figures["text"]["centred_cosine"],
        "flips": report.figures.scores.flips, "status": report.verdict,
        **{key: figures["scores"][key] for key in ("accuracy", "auc", "accuracy_kept", "auc_kept")},
    }  # fmt: skip


def exported(checkpoint: Path, recipe: str, data: Path, work: Path) -> Bundle:
    out = work / f"{checkpoint.name}-{recipe}"
    if not out.is_dir():
        calibration = work / "calibration"
        if not calibration.is_dir():
            write_calibration(data, calibration)
        export_medsiglip(ExportJob(checkpoint, out, recipe, calibration=calibration))
    return Bundle.open(out, allow_failed_parity=True)


def encoder(data: Path, work: Path) -> dict[str, Any]:
    rows = {}
    for name in ("inherited", "from scratch"):
        job = jobs(data, work)[name]
        run = made(job)
        rows[name] = {
            "figures": run.figures, "facts": run.facts,
            "tests": against_teacher(exported(job.out, "fp32", data, work), job.teacher, data, work),
        }  # fmt: skip
        print(
            name,
            run.figures,
            {k: (v["accuracy_kept"], v["auc_kept"]) for k, v in rows[name]["tests"].items()},
            flush=True,
        )
    return {"student": STUDENT, "rows": rows}


def finish(data: Path, work: Path) -> dict[str, Any]:
    all_jobs, rows = jobs(data, work), {}
    for name, key, recipe in (
        ("student, fp32", "inherited", "fp32"), ("student, int4", "inherited", "int4"),
        ("finished for int4, int4", "finished", "int4"),
    ):  # fmt: skip
        made(all_jobs[key])
        rows[name] = against_teacher(exported(all_jobs[key].out, recipe, data, work), all_jobs[key].teacher, data, work)
        print(name, {k: (v["centred_cosine"], v["text_centred_cosine"]) for k, v in rows[name].items()}, flush=True)
    return rows


def latency(_data: Path, work: Path) -> list[dict[str, Any]]:
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
        path = work / f"{name}.onnx"
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
    for leftover in work.glob("*.onnx*"):
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


def language(data: Path, work: Path) -> dict[str, Any]:
    teacher, out = work / "medgemma-mini", work / "medgemma-half"
    if not teacher.is_dir():
        write_medgemma_mini(teacher)
    entries = json.loads((data / "pubmedqa" / "pqal.json").read_text())
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
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, part in PARTS.items():
        if not arguments.only or name in arguments.only:
            results[name] = part(arguments.data, arguments.work)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
