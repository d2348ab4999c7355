"""From a MedGemma checkpoint to a gated GGUF bundle: write, quantize, measure, and only then give it its name."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf

from ... import __version__
from ...quant.gguf_file.importance import Importance
from ...quant.gguf_file.quantize import quantize_language
from ...quant.gguf_file.sensitivity import choose_types
from ...quant.recipes.gguf import GGUF_RECIPES, GGUFRecipe, parse_gguf_recipes
from ...quant.recipes.recipe import Recipe
from ...quant.texts.prompts import medical_texts
from ...runtime.bundles.bundle import Bundle, BundleWriter, new_bundle
from ...runtime.bundles.manifest import Artefact, Manifest, TowerFacts
from ...runtime.bundles.parity_report import GeneratorReport, ParityReport
from ...runtime.device.cpu import pick_target
from ...runtime.device.gguf_header import read_header
from ...runtime.errors import CheckpointError, RecipeError
from ...runtime.generator.generator import Generator
from ...runtime.golden.generator import write_golden_answers
from ...runtime.progress import Progress, no_progress
from ..families.gemma3 import generator_facts, generator_preprocessing, open_gemma
from ..families.generator_reference import GeneratorReference
from ..pages.parity import render_parity
from ..parity.generator import CachedLogits, Material, measure_generator
from ..source.checkpoint import Checkpoint, read_json
from ..source.corpus import Choice, Corpus, iterate_texts, read_choices, read_corpus
from ..source.samples import builtin_samples, read_samples, spread
from ..to_gguf.write import write_language
from .calibrate import calibrate
from .formats import PROJECTORS, Projecting
from .generator_job import GeneratorJob

MEASURED_IMAGES = 16
PRECISIONS = ("f16", "bf16")  # recipes that need no quantizer


@dataclass(frozen=True)
class _Work:
    """One export on its way.

    Attributes:
        job, checkpoint, corpus: what is asked for, of what, calibrated on what.
        recipe, projector: of the language model, and of the vision tower (None where there is none).
        writer, scratch: the half-made bundle, and a folder for what is needed on the way.
        label: the beginning of the files' names, by the GGUF naming convention.
        progress: called as work advances.
    """

    job: GeneratorJob
    checkpoint: Checkpoint
    corpus: Corpus
    recipe: GGUFRecipe
    projector: Recipe | None
    writer: BundleWriter
    scratch: Path
    label: str
    progress: Progress


def export_medgemma(
    job: GeneratorJob, progress: Progress = no_progress, *, logits: CachedLogits | None = None
) -> tuple[Bundle, GeneratorReport | None]:
    """Run an export; the bundle is written even when its gate fails, and is then marked so.

    Args:
        job: what is asked for.
        progress: called as work advances.
        logits: the reference's logits, where several bundles of one checkpoint share them.

    Raises:
        MedgeError: any of its kinds; nothing stands under the final name then.
    """
    recipe, projector = _read_job(job)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(new_bundle(job.out, force=job.force))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=writer.folder, prefix=".scratch-")))
        checkpoint = open_gemma(job.checkpoint)
        sees = "vision_config" in checkpoint.config
        if job.merge and not sees:
            raise RecipeError(f"--merge is for a vision tower; {checkpoint.folder.name} reads text only")
        material = material_of(job.texts, job.images, job.tasks, sees=sees)
        work = _Work(
            job, checkpoint, read_corpus(job.calibration), recipe, projector if sees else None, writer, scratch,
            _label(checkpoint), progress,
        )  # fmt: skip
        manifest, full = _make(work)
        generator = Generator(Bundle(writer.folder, writer.finish(manifest)), context=2048)
        _check_stops(generator)
        write_golden_answers(generator, writer.add("golden.safetensors", "golden"))
        report = None
        if not job.skip_parity:
            baseline = _without_matrix(recipe, full, scratch)
            logits = logits or CachedLogits(GeneratorReference(job.checkpoint), None)
            report = measure_generator(generator, logits, material, baseline=baseline, progress=progress)
            manifest = manifest.with_artefact("gguf", replace(manifest.artefacts["gguf"], parity=report.summary()))
            for path, (role, text) in _report_files(report).items():
                writer.add(path, role).write_text(text, encoding="utf-8")
        generator.close()
        manifest = writer.finish(manifest)
    return Bundle(job.out, manifest), report


def measure_generator_bundle(
    bundle: Bundle, reference: Path, material: Material, *, beside: Sequence[Path] = (),
    logits: CachedLogits | None = None, progress: Progress = no_progress,
) -> tuple[Bundle, GeneratorReport]:  # fmt: skip
    """`medge parity` of a generator: measure an existing bundle and put the result into it.

    Raises:
        CheckpointError: the reference is not the checkpoint that the bundle was made from.
    """
    checkpoint = open_gemma(reference)
    if checkpoint.hashes != bundle.manifest.source.get("sha256"):
        made_from = bundle.manifest.source.get("name")
        raise CheckpointError(
            f"{reference} is not what {bundle.folder.name} was made from ({made_from}): hashes differ"
        )
    recipe = GGUF_RECIPES[bundle.manifest.towers["language"].recipe]
    generator = Generator(bundle, context=2048)
    with tempfile.TemporaryDirectory() as place:
        full = Path(place) / "full.gguf"
        if recipe.importance:
            write_language(checkpoint, full, "bf16", progress)
        baseline = _without_matrix(recipe, full, Path(place))
        full.unlink(missing_ok=True)
        logits = logits or CachedLogits(GeneratorReference(reference), None)
        report = measure_generator(generator, logits, material, baseline=baseline, progress=progress)
    generator.close()
    others = [ParityReport.read(folder / "parity.json") for folder in beside]
    measured = replace(bundle.manifest.artefacts["gguf"], parity=report.summary())
    return bundle.amend(bundle.manifest.with_artefact("gguf", measured), _report_files(report, others)), report


def material_of(texts: Sequence[Path], images: Path | None, tasks: Sequence[Path], *, sees: bool) -> Material:
    """What parity is measured on: the given files, medge's own texts and pydicom's images where there are none."""
    chosen = list(iterate_texts(texts)) if texts else medical_texts(held_back=True)
    samples = (read_samples(images) if images else builtin_samples()) if sees else None
    if samples is not None:
        picks = [samples.images[index] for index in spread(len(samples), MEASURED_IMAGES)]
        samples = replace(samples, images=picks, truth=None)
    questions: dict[str, Sequence[Choice]] = {path.stem: read_choices(path) for path in tasks}
    return Material(chosen, samples, questions)


def modelfile(towers: dict[str, TowerFacts]) -> str:
    """An Ollama Modelfile: `ollama create medgemma -f Modelfile` inside the bundle.

    Ollama's templates are Go's, so the checkpoint's Jinja can't be handed over: Gemma's turns are written out here.
    """
    lines = [f"FROM ./{towers[part].file}" for part in ("language", "projector") if _is_gguf(towers.get(part))]
    template = (
        "{{- range $i, $_ := .Messages }}{{- $last := eq (len (slice $.Messages $i)) 1 }}"
        '{{- if or (eq .Role "user") (eq .Role "system") }}<start_of_turn>user\n{{ .Content }}<end_of_turn>\n'
        "{{ if $last }}<start_of_turn>model\n{{ end }}"
        '{{- else if eq .Role "assistant" }}<start_of_turn>model\n{{ .Content }}{{ if not $last }}<end_of_turn>\n'
        "{{ end }}{{- end }}{{- end }}"
    )
    return "\n".join(
        [*lines, f'TEMPLATE """{template}"""', 'PARAMETER stop "<end_of_turn>"', "PARAMETER temperature 0", ""]
    )


def _is_gguf(tower: TowerFacts | None) -> bool:
    return tower is not None and tower.format == "gguf"


def _read_job(job: GeneratorJob) -> tuple[GGUFRecipe, Recipe]:
    """The recipes of both parts.

    Raises:
        RecipeError: what does not exist or does not fit.
    """
    recipe, projector = parse_gguf_recipes(job.recipe, merging=bool(job.merge))
    if job.target_size is not None and not recipe.importance:
        raise RecipeError(f"--target-size chooses among quantized types; {recipe.name} is none, start from q4_k_m")
    if job.without_importance and (job.target_size is not None or job.importance is not None):
        raise RecipeError("--without-importance leaves nothing for --target-size or --importance to work with")
    pick_target(job.target)
    return recipe, projector


def _make(work: _Work) -> tuple[Manifest, Path]:
    """Write both parts and what stands beside them; the draft of the manifest, and the language model in full precision."""
    job, checkpoint, recipe = work.job, work.checkpoint, work.recipe
    towers: dict[str, TowerFacts] = {}
    target, reason = "any", "GGUF runs on any CPU: llama.cpp picks its kernels when it starts"
    if work.projector is not None:
        images = work.corpus.images if len(work.corpus.images) else builtin_samples()
        cpu, why = pick_target(job.target)
        projecting = Projecting(checkpoint, work.writer, cpu, images, job.merge, work.label, work.progress)
        towers["projector"] = PROJECTORS[work.projector.format](projecting, work.projector)
        if towers["projector"].format == "onnx":
            target, reason = cpu.name, f"the vision tower in ONNX: {why}"
    path = f"{work.label}-{recipe.name.upper()}.gguf"
    out = work.writer.add(path, "language")
    full, decisions = _write_language(work, out)
    decisions["types"] = read_header(out).types()
    towers["language"] = TowerFacts(recipe.name, path, "gguf", recipe.promise.golden, decisions=decisions)
    _write_companions(work.writer, checkpoint, towers)
    manifest = Manifest(
        kind="generator", name=job.out.name, model=generator_facts(checkpoint), target=target,
        preprocessing=generator_preprocessing(checkpoint), artefacts={"gguf": Artefact(towers)},
        source={"name": checkpoint.folder.name, "sha256": checkpoint.hashes, "target_reason": reason,
                "calibration": {"source": work.corpus.source, "texts": len(work.corpus.texts)}},
        medge_version=__version__,
    )  # fmt: skip
    return manifest, full


def _write_language(work: _Work, out: Path) -> tuple[Path, dict[str, Any]]:
    """Write the language model by its recipe; the full-precision file, and what was decided."""
    job, recipe, progress = work.job, work.recipe, work.progress
    if recipe.name in PRECISIONS:
        write_language(work.checkpoint, out, "f16" if recipe.name == "f16" else "bf16", progress)
        return out, {}
    full, decisions = work.scratch / "full.gguf", {}
    write_language(work.checkpoint, full, "bf16", progress)
    importance, types = None, {}
    if recipe.importance and not job.without_importance:
        importance = _importance(work, full)
        decisions["importance_chunks"] = importance.chunks
    if job.target_size is not None:
        assert importance is not None
        texts = work.corpus.texts
        types = choose_types(full, recipe, importance, job.target_size, texts, work.scratch, progress)
        decisions["target_size"] = job.target_size
    progress(f"quantizing to {recipe.name}", 0, 1)
    quantize_language(full, out, recipe, importance=importance, types=types)
    return full, decisions


def _importance(work: _Work, full: Path) -> Importance:
    if work.job.importance is not None:
        return Importance.load(work.job.importance)
    return calibrate(work.checkpoint, work.corpus, full=full, scratch=work.scratch, progress=work.progress)


def _without_matrix(recipe: GGUFRecipe, full: Path, scratch: Path) -> Path | None:
    """What llama.cpp's own quantizer makes without a matrix, for recipes that are held against it."""
    if not recipe.importance:
        return None
    baseline = scratch / "plain.gguf"
    quantize_language(full, baseline, recipe)
    return baseline


def _report_files(report: ParityReport, others: Sequence[ParityReport] = ()) -> dict[str, tuple[str, str]]:
    """{path: (role, text)} of the report's two forms inside a bundle."""
    return {
        "parity.json": ("parity", report.to_json()),
        "parity.html": ("parity.page", render_parity(report, others)),
    }


def _label(checkpoint: Checkpoint) -> str:
    identity = gguf.Metadata.load(None, checkpoint.folder, None, 0)
    name = identity.name or checkpoint.folder.name
    return gguf.naming_convention(
        name, identity.basename, identity.finetune, identity.version, identity.size_label, None
    )


def _check_stops(generator: Generator) -> None:
    """llama.cpp finds the tokens that end an answer by their names: it must have found all that the checkpoint lists."""
    missed = [token for token in generator.facts.stop_ids if not generator.engine.ends(token)]
    if missed:
        raise CheckpointError(f"token {missed[0]} ends an answer by generation_config.json, but not for llama.cpp")


def _write_companions(writer: BundleWriter, checkpoint: Checkpoint, towers: dict[str, TowerFacts]) -> None:
    config = json.dumps(checkpoint.config, indent=2) + "\n"
    writer.add("config.json", "config").write_text(config)
    preprocessor = checkpoint.folder / "preprocessor_config.json"
    if preprocessor.is_file():
        writer.add("preprocessor_config.json", "preprocessor").write_text(
            json.dumps(read_json(preprocessor), indent=2) + "\n"
        )
    template = read_header(writer.folder / towers["language"].file).metadata.get("tokenizer.chat_template")
    if not isinstance(template, str):
        raise CheckpointError(f"{checkpoint.folder}: no chat template in chat_template.jinja or tokenizer_config.json")
    writer.add("Modelfile", "ollama").write_text(modelfile(towers))
