"""From a checkpoint to a gated bundle: export both towers, make them smaller, measure, and only then give it its name."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...quant.onnx_graph.apply import quantize
from ...quant.onnx_graph.graph import Graph
from ...quant.recipes.coreml import CoreMLRecipe, parse_coreml_recipes
from ...quant.recipes.onnx import Recipe, parse_recipes
from ...quant.texts.prompts import calibration_texts
from ...runtime.bundles.bundle import Bundle, BundleWriter, new_bundle
from ...runtime.bundles.gates import TOWER_GATES
from ...runtime.bundles.manifest import EncoderFacts, Manifest, TowerFacts
from ...runtime.bundles.parity_report import ParityReport
from ...runtime.device.cpu import Target, pick_target
from ...runtime.encoder.encoder import Encoder
from ...runtime.encoder.labels import LabelBank, read_labels, unit_length
from ...runtime.errors import CheckpointError, RecipeError
from ...runtime.golden.encoder import write_golden
from ...runtime.pictures.preprocess import get_profile
from ...runtime.progress import Progress, no_progress
from ..families.siglip import Reference, embed_reference, text_ids
from ..families.siglip_tokenizer import device_tokenizer
from ..families.token_merging import MergingTower, largest_merge
from ..pages.parity import render_parity
from ..pages.web_page import check_web, write_page
from ..parity.encoder import measure
from ..parity.packages import measure_packages
from ..parity.stages import OnnxStages
from ..parity.student import measure_against_teacher
from ..source.checkpoint import Checkpoint
from ..source.samples import Samples, builtin_samples, read_samples
from ..source.student_files import ROLE as SUBSPACE_ROLE
from ..source.student_files import read_teacher, student_subspace
from ..to_coreml.packages import FOLDER, full_programs, options_of, write_packages
from ..to_coreml.session import PackageEncoder
from ..to_coreml.swift_package import write_swift
from ..to_coreml.write import MERGEABLE
from ..to_onnx.towers import export_tower, write_tower
from .encoder_job import ExportJob

COPIED = ("tokenizer_config.json", "special_tokens_map.json")


def export_medsiglip(job: ExportJob, progress: Progress = no_progress) -> tuple[Bundle, tuple[ParityReport, ...]]:
    """Run an export; the bundle is written even when a gate fails, and is then marked so.

    Returns:
        the bundle, and a report for each format.

    Raises:
        MedgeError: any of its kinds; nothing stands under the final name then.
    """
    recipes, package_recipes = job_recipes(job)
    get_profile(job.profile)
    target, reason = pick_target(job.target)
    prompts = read_labels(job.labels) if job.labels else None
    if job.target == "web":
        check_web(job.web_libraries, has_labels=bool(prompts))
    with new_bundle(job.out, force=job.force) as writer:  # first, so that an existing bundle is refused at once
        checkpoint = Checkpoint.open(job.checkpoint, "siglip")
        device_tokenizer(checkpoint)  # fails before anything is computed
        samples = read_samples(job.calibration) if job.calibration else builtin_samples()
        judged = read_samples(job.images, labelled=job.labelled) if job.images else samples
        progress("loading the checkpoint", 0, 1)
        reference = Reference(checkpoint)
        inputs = {
            tower: calibration_inputs(tower, reference, samples, job.profile)
            for tower in {**recipes, **package_recipes}
        }
        towers, graphs = _write_towers(writer, job, reference, recipes, target, inputs, progress)
        _write_configuration(writer, checkpoint, job.profile)
        if (subspace := student_subspace(checkpoint.folder)) is not None:
            writer.add(subspace.name, SUBSPACE_ROLE).write_bytes(subspace.read_bytes())
        if prompts:
            progress("label bank", 0, 1)
            bank = LabelBank.build(prompts, lambda texts: embed_reference(reference, texts))
            bank.save(writer.add("labels.safetensors", "labels"))
        if job.target == "web":
            write_page(writer, job.web_libraries)
        teacher = read_teacher(checkpoint.folder)
        draft = Manifest(
            name=job.out.name, model=_facts(checkpoint, reference), profile=job.profile, target=target.name,
            source={"name": checkpoint.folder.name, "sha256": checkpoint.hashes, "target_reason": reason,
                    "calibration": {"source": samples.source, "images": len(samples)},
                    **({"teacher": teacher} if teacher else {})},
            towers=towers, labels=tuple(prompts or ()), medge_version=_version(),
        )  # fmt: skip
        reports: list[ParityReport] = []
        if towers:
            encoder = Encoder(Bundle(writer.folder, writer.finish(draft)), device="cpu")
            write_golden(encoder, writer.add("golden.safetensors", "golden"))
            report = measure(
                encoder, reference, judged, stages=OnnxStages(encoder, reference, graphs), progress=progress
            )
            draft = replace(draft, parity=report.summary())
            reports.append(report)
            _write_texts(writer, parity_files(report))
        if package_recipes:
            draft, report = _add_packages(writer, draft, job, reference, package_recipes, inputs, judged, progress)
            reports.append(report)
        manifest = writer.finish(draft)
    return Bundle(job.out, manifest), tuple(reports)


def _write_towers(
    writer: BundleWriter, job: ExportJob, reference: Reference, recipes: dict[str, Recipe], target: Target,
    inputs: dict[str, list[np.ndarray[Any, Any]]], progress: Progress,
) -> tuple[dict[str, TowerFacts], dict[str, Graph]]:  # fmt: skip
    """Export and quantize the ONNX towers; their facts, and the full-precision graphs that parity measures the exporter by."""
    towers: dict[str, TowerFacts] = {}
    graphs: dict[str, Graph] = {}
    for number, (tower, recipe) in enumerate(recipes.items()):
        progress(f"exporting the {tower} tower", number, len(recipes))
        merged = _merging(job, reference, recipe, inputs[tower]) if tower == "vision" else None
        graph = export_tower(merged or reference.tower(tower), tower)
        progress(f"{recipe.name}: {tower} tower", number, len(recipes))
        small, decisions = quantize(graph, recipe, target, inputs[tower])
        if merged is not None:
            decisions |= merged.encoder.facts()
        else:  # with fewer tokens it is no measure of the exporter: parity then exports the tower as it is
            graphs[tower] = graph
        towers[tower] = write_tower(writer, tower, f"{tower}_model", recipe, small, decisions)
    return towers, graphs


def job_recipes(job: ExportJob) -> tuple[dict[str, Recipe], dict[str, CoreMLRecipe]]:
    """What to make of each tower in each format.

    Raises:
        RecipeError: unknown formats or recipes, or one that does not fit the others.
    """
    if unknown := sorted(set(job.formats) - {"onnx", "coreml"}):
        raise RecipeError(f"there is no format {unknown[0]!r}; choose onnx, coreml, or onnx,coreml")
    if not job.with_text and job.labels is None:
        raise RecipeError("without its text tower a bundle can only classify: bake labels in with --labels FILE")
    onnx = parse_recipes(job.recipe or "int8") if "onnx" in job.formats else {}
    if not job.with_text:
        onnx.pop("text", None)
    if "coreml" not in job.formats:
        return onnx, {}
    named = job.coreml_recipe if onnx else job.coreml_recipe or job.recipe
    packages = parse_coreml_recipes(named or "w8", job.package.ios)
    if job.package.target_size is not None and any(recipe.kind != "palette" for recipe in packages.values()):
        raise RecipeError("--target-size chooses bits for palettes: say a palette recipe for both towers")
    if job.merge and packages["vision"].kind not in MERGEABLE:
        raise RecipeError(f"in a CoreML package, merged patches go with fp16 or w8, not with {packages['vision'].name}")
    if not job.with_text:
        packages.pop("text", None)
    return onnx, packages


def _merging(
    job: ExportJob, reference: Reference, recipe: Recipe, inputs: list[np.ndarray[Any, Any]]
) -> MergingTower | None:
    """The vision tower with similar tokens merged, where the job or the recipe wants that."""
    tower = reference.model.vision_model

    @torch.inference_mode()
    def embed(merged: int) -> np.ndarray[Any, Any]:
        merging = MergingTower(tower, merged)
        return unit_length(np.concatenate([merging(torch.from_numpy(b)).pooler_output.numpy() for b in inputs]))

    count = job.merge
    if count is None and recipe.merge_within:
        count = largest_merge(embed, tower, TOWER_GATES["vision"][recipe.merge_within])
    return MergingTower(tower, count) if count else None


def _add_packages(
    writer: BundleWriter, draft: Manifest, job: ExportJob, reference: Reference, recipes: dict[str, CoreMLRecipe],
    inputs: dict[str, list[np.ndarray[Any, Any]]], judged: Samples, progress: Progress,
) -> tuple[Manifest, ParityReport]:  # fmt: skip
    """Write and measure the CoreML packages; the draft with their facts, and the report."""
    progress("CoreML: full-precision programs", 0, 1)
    metadata = {
        "profile": draft.profile, "labels": json.dumps(list(draft.labels)), "source": str(draft.source["name"]),
        "logit_scale": repr(draft.encoder.logit_scale), "logit_bias": repr(draft.encoder.logit_bias),
    }  # fmt: skip
    options = replace(job.package, merge=job.merge or 0)
    merging = ["vision"] if options.merge else []
    # Parity measures the converter by the tower as it is; what fp16 can hold is asked of the one that is converted.
    with (
        full_programs(reference, list(recipes), job.package) as full,
        full_programs(reference, merging, options) as merged,
    ):
        facts = write_packages(writer, reference, recipes, {**full, **merged}, inputs, options, metadata, progress)
        draft = replace(draft, packages=facts)
        unfinished = Bundle(writer.folder, writer.finish(draft))
        encoder = PackageEncoder(unfinished)
        write_swift(writer, encoder)
        report = measure_packages(encoder, reference, judged, full, progress=progress)
    _write_texts(writer, parity_files(report, FOLDER, "package.parity"))
    return replace(draft, packages_parity=report.summary()), report


def _write_texts(writer: BundleWriter, texts: list[tuple[str, str, str]]) -> None:
    for name, role, text in texts:
        writer.add(name, role).write_text(text, encoding="utf-8")


def parity_files(report: ParityReport, folder: str = "", role: str = "parity") -> list[tuple[str, str, str]]:
    """(path, role, text) of the report's two forms inside a bundle, those of packages and of a teacher in folders."""
    place = f"{folder}/" if folder else ""
    return [
        (f"{place}parity.json", role, report.to_json()),
        (f"{place}parity.html", f"{role}.page", render_parity(report)),
    ]


def measure_bundle(
    bundle: Bundle, reference: Path, samples: Samples, *, prompts: dict[str, list[str]] | None = None,
    progress: Progress = no_progress,
) -> tuple[Bundle, tuple[ParityReport, ...]]:  # fmt: skip
    """`medge parity`: measure an existing bundle, every format in it, and put the results into it.

    Where the reference is the teacher of a student's bundle, the student is held against it instead.

    Raises:
        CheckpointError: the reference is not the checkpoint that the bundle was made from, nor its teacher.
    """
    checkpoint = Checkpoint.open(reference, "siglip")
    teacher = bundle.manifest.source.get("teacher")
    if teacher and checkpoint.hashes == teacher["sha256"]:
        report = measure_against_teacher(bundle, Reference(checkpoint), samples, prompts=prompts, progress=progress)
        files = {name: (role, text) for name, role, text in parity_files(report, "teacher", "teacher.parity")}
        return bundle.amend(replace(bundle.manifest, teacher_parity=report.summary()), files), (report,)
    if checkpoint.hashes != bundle.manifest.source.get("sha256"):
        made_from = bundle.manifest.source.get("name")
        raise CheckpointError(
            f"{reference} is not what {bundle.folder.name} was made from ({made_from}): hashes differ"
        )
    model, manifest = Reference(checkpoint), bundle.manifest
    reports, texts = [], []
    if manifest.towers:
        report = measure(Encoder(bundle, device="cpu"), model, samples, prompts=prompts, progress=progress)
        manifest = replace(manifest, parity=report.summary())
        reports.append(report)
        texts += parity_files(report)
    if manifest.packages:
        with full_programs(model, list(manifest.packages), options_of(manifest)) as full:
            report = measure_packages(PackageEncoder(bundle), model, samples, full, prompts=prompts, progress=progress)
        manifest = replace(manifest, packages_parity=report.summary())
        reports.append(report)
        texts += parity_files(report, FOLDER, "package.parity")
    return bundle.amend(manifest, {name: (role, text) for name, role, text in texts}), tuple(reports)


def calibration_inputs(tower: str, reference: Reference, samples: Samples, profile: str) -> list[np.ndarray[Any, Any]]:
    """Inputs that the recipes look at, one per batch."""
    if tower == "text":
        ids = text_ids(reference.checkpoint, calibration_texts())
        return [ids[index : index + 1] for index in range(len(ids))]
    return samples.for_calibration(profile, reference.checkpoint.config["vision_config"])


def _write_configuration(writer: BundleWriter, checkpoint: Checkpoint, profile: str) -> None:
    from ..families.siglip import processor_config

    side = checkpoint.config["vision_config"]["image_size"]
    writer.add("config.json", "config").write_text(json.dumps(checkpoint.config, indent=2) + "\n")
    processor = json.dumps(processor_config(side, profile), indent=2) + "\n"
    writer.add("preprocessor_config.json", "preprocessor").write_text(processor)
    writer.add("tokenizer.json", "tokenizer").write_text(device_tokenizer(checkpoint), encoding="utf-8")
    for name in COPIED:
        if (checkpoint.folder / name).is_file():
            writer.add(name, name.removesuffix(".json")).write_bytes((checkpoint.folder / name).read_bytes())


def _facts(checkpoint: Checkpoint, reference: Reference) -> EncoderFacts:
    vision, text = reference.model.config.vision_config, reference.model.config.text_config
    return EncoderFacts(
        architecture=checkpoint.config["model_type"], embedding_size=vision.hidden_size, image_size=vision.image_size,
        patch_size=vision.patch_size, text_length=text.max_position_embeddings, vocabulary=text.vocab_size,
        logit_scale=float(reference.model.logit_scale.exp()), logit_bias=float(reference.model.logit_bias),
        parameters=sum(parameter.numel() for parameter in reference.model.parameters()),
    )  # fmt: skip


def _version() -> str:
    from ... import __version__

    return __version__


def describe_job(job: ExportJob) -> dict[str, Any]:
    """The job as plain data, for --json."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(job).items()}
