"""From a MedGemma checkpoint to a gated GGUF bundle: write, quantize, measure, and only then give it its name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gguf

from ... import __version__
from ...quant.gguf_file.compensate import compensate
from ...quant.gguf_file.quantize import quantize_language
from ...quant.gguf_file.sensitivity import check_size, size_of
from ...quant.recipes.gguf import GGUF_RECIPES, GGUFRecipe, parse_gguf_recipes
from ...quant.recipes.recipe import Recipe
from ...quant.texts.prompts import medical_texts
from ...runtime.bundles.bundle import Bundle, BundleWriter, new_bundle
from ...runtime.bundles.claim import claimed, scratch_folder
from ...runtime.bundles.facts import Artefact, Calibration, Source, TowerFacts
from ...runtime.bundles.manifest import Manifest
from ...runtime.bundles.parity_report import GeneratorReport, ParityReport
from ...runtime.device.cpu import pick_target
from ...runtime.device.gguf_header import read_header
from ...runtime.errors import CheckpointError, CorpusError, RecipeError
from ...runtime.generator.generator import Generator
from ...runtime.golden.generator import write_golden_answers
from ...runtime.progress import Progress, Warn, no_progress, no_warning
from ..families.cut_vocabulary import cut, tokens_of
from ..families.gemma3 import generator_facts, generator_preprocessing, open_gemma
from ..format import Projecting
from ..pages.parity import render_parity
from ..parity.divergence import CachedLogits
from ..parity.generator import Material, measure_generator
from ..parity.kept_outputs import NOT_FOLLOWED, Course
from ..source.checkpoint import Checkpoint
from ..source.choices import read_choices
from ..source.corpus import Choice, iterate_texts
from ..source.given import not_made_from
from ..source.samples import LEAST_TO_HOLD_BACK, Samples, builtin_samples, calibrated_on, read_samples, spread
from ..to_gguf.companions import write_companions
from ..to_gguf.scripts import parse_scripts, say_scripts
from ..to_gguf.vocabulary import tokens_by_script, tokens_in
from ..to_gguf.write import write_language
from .formats import PROJECTORS
from .full_language import FullLanguage
from .generator_job import GeneratorJob, read_job
from .put import put
from .several import one_each

MEASURED_IMAGES = 16
PRECISIONS = ("f16", "bf16")  # recipes that need no quantizer


@dataclass(frozen=True)
class _Work:
    """One export on its way.

    Attributes:
        job, full: what is asked for, and of what.
        recipe, projector: of the language model, and of the vision tower (None where there is none).
        writer: of the half-made bundle.
        size: bytes that the language model's file may have, where types are chosen for a size.
        label: the beginning of the files' names, by the GGUF naming convention.
        progress: called as work advances.
    """

    job: GeneratorJob
    full: FullLanguage
    recipe: GGUFRecipe
    projector: Recipe | None
    writer: BundleWriter
    size: int | None
    label: str
    progress: Progress


def export_medgemma(
    job: GeneratorJob, progress: Progress = no_progress, *, logits: CachedLogits | None = None, warn: Warn = no_warning
) -> tuple[Bundle, GeneratorReport | None]:
    """Run an export; the bundle is written even when its gate fails, and is then marked so.

    Args:
        job: what is asked for.
        progress: called as work advances.
        logits: the reference's logits, where the caller has them.
        warn: told of every image that can't be read.

    Returns:
        the bundle, and its parity report unless `job.skip_parity`.

    Raises:
        MedgeError: any of its kinds; nothing stands under the final name then.
    """
    read_job(job)
    with (
        new_bundle(job.out, force=job.force) as writer,  # first: an existing one is refused at once
        _open_full(job, progress, warn, logits=logits) as full,
    ):
        manifest, report = _export(job, full, writer, progress)
    return Bundle(job.out, manifest), report


def export_medgemma_recipes(
    job: GeneratorJob, recipes: Sequence[str], progress: Progress = no_progress, *, warn: Warn = no_warning
) -> Iterator[tuple[Bundle, GeneratorReport | None]]:
    """Run the same export with several recipes, each into a folder of its own under `job.out`.

    The checkpoint is converted and calibrated once, and its logits are computed once.

    Raises:
        MedgeError: any of its kinds; bundles that were made before it stay. What can be refused is refused before any is made.
    """
    jobs = one_each(job, recipes, read_job)
    with contextlib.ExitStack() as stack:
        for one in jobs:
            stack.enter_context(claimed(one.out))
        full = stack.enter_context(_open_full(job, progress, warn, shared=True))
        for one in jobs:
            _size(one, read_job(one)[0], full)
        if any(_weighed(one, read_job(one)[0]) for one in jobs):
            _ = full.importance  # before the PyTorch model comes into memory
        for one in jobs:
            with new_bundle(one.out, force=one.force) as writer:
                manifest, report = _export(one, full, writer, progress)
            full.forget_reference()  # the next recipe's compensation needs its memory; logits are on the disk
            yield Bundle(one.out, manifest), report


def measure_generator_bundle(
    bundle: Bundle, reference: Path, material: Material, *, beside: Sequence[Path] = (),
    logits: CachedLogits | None = None, course: Course = NOT_FOLLOWED, out: Path | None = None,
) -> tuple[Bundle, GeneratorReport]:  # fmt: skip
    """`medge parity` of a generator: measure an existing bundle, and put the result into it or into the folder `out`.

    Raises:
        CheckpointError: the reference is not the checkpoint that the bundle was made from.
    """
    checkpoint = open_gemma(reference)
    if checkpoint.hashes != bundle.manifest.source.sha256:
        raise CheckpointError(not_made_from(bundle, reference))
    recipe = GGUF_RECIPES[bundle.manifest.towers["language"].recipe]
    generator = Generator(bundle, context=2048)
    if (tokens := tokens_in(generator.header.path, checkpoint)) is not None:
        checkpoint = cut(checkpoint, tokens)
    with scratch_folder() as place:
        full = FullLanguage(checkpoint, place, logits=logits, progress=course.progress)
        weighed = "importance_chunks" in bundle.manifest.towers["language"].decisions
        baseline = partial(_baseline, recipe, full) if weighed and recipe.plain else None
        report = measure_generator(generator, full.logits, material, baseline=baseline, course=course)
    generator.close()
    calibration = bundle.manifest.source.calibration
    report = replace(report, held_back=material.images is None or not calibrated_on(material.images, calibration))
    others = [ParityReport.read(folder / "parity.json") for folder in beside]
    measured = replace(bundle.manifest.artefacts["gguf"], parity=report.summary())
    manifest = bundle.manifest.with_artefact("gguf", measured)
    return put(bundle, manifest, _report_files(report, others), out), report


def material_of(
    texts: Sequence[Path], images: Path | None, tasks: Sequence[Path], *, sees: bool, warn: Warn = no_warning
) -> Material:
    """What parity is measured on: the given files, medge's own texts and pydicom's images where there are none.

    Raises:
        CorpusError: two files of questions have the same name.
    """
    chosen = list(iterate_texts(texts)) if texts else medical_texts(held_back=True)
    samples = (read_samples(images).told(warn) if images else builtin_samples()) if sees else None
    if samples is not None:
        samples = samples.only(spread(len(samples), MEASURED_IMAGES))
    questions: dict[str, Sequence[Choice]] = {}
    for path in tasks:
        if path.stem in questions:
            raise CorpusError(f"two files of questions are called {path.stem}: rename one, reports name them so")
        questions[path.stem] = read_choices(path)
    return Material(chosen, samples, questions)


def _weighed(job: GeneratorJob, recipe: GGUFRecipe) -> bool:
    """Whether an importance matrix weighs the rounding."""
    return recipe.importance and not job.without_importance


@contextlib.contextmanager
def _open_full(
    job: GeneratorJob, progress: Progress, warn: Warn, *, logits: CachedLogits | None = None, shared: bool = False
) -> Iterator[FullLanguage]:  # fmt: skip
    """The job's checkpoint with its calibration data, and a scratch folder beside what it makes for what is derived of it."""
    checkpoint = open_gemma(job.checkpoint)
    if job.vocabulary is not None:
        checkpoint = cut(checkpoint, tokens_by_script(checkpoint, parse_scripts(job.vocabulary)))
    with scratch_folder(job.out) as scratch:
        full = FullLanguage(
            checkpoint, scratch, calibration=job.calibration, matrix=job.importance, logits=logits, shared=shared,
            progress=progress,
        )  # fmt: skip
        full.corpus.images.told(warn)  # what can't be read at all is refused before anything is made
        yield full


def _export(
    job: GeneratorJob, full: FullLanguage, writer: BundleWriter, progress: Progress
) -> tuple[Manifest, GeneratorReport | None]:
    """Make one bundle, and measure it."""
    recipe, projector = parse_gguf_recipes(job.recipe, merging=bool(job.merge))
    sees = "vision_config" in full.checkpoint.config
    material = material_of(job.texts, job.images, job.tasks, sees=sees)
    size = _size(job, recipe, full)
    work = _Work(job, full, recipe, projector if sees else None, writer, size, _label(full.checkpoint), progress)
    manifest = _make(work, material)
    generator = Generator(Bundle(writer.folder, writer.finish(manifest)), context=2048)
    _check_stops(generator)
    write_golden_answers(generator, writer.add("golden.safetensors", "golden"))
    report = None
    if not job.skip_parity:
        baseline = partial(_baseline, recipe, full) if _weighed(job, recipe) and recipe.plain else None
        report = measure_generator(generator, full.logits, material, baseline=baseline, course=Course(progress))
        report = replace(report, held_back=_held_back(work, material))
        manifest = manifest.with_artefact("gguf", replace(manifest.artefacts["gguf"], parity=report.summary()))
        for path, (role, text) in _report_files(report).items():
            writer.add(path, role).write_text(text, encoding="utf-8")
    generator.close()
    return writer.finish(manifest), report


def _tower_images(work: _Work) -> Samples:
    """Images that a vision tower can be calibrated on."""
    images = work.full.corpus.images
    return images if len(images) else builtin_samples()


def _held_back(work: _Work, material: Material) -> bool:
    """Whether none of the images that the bundle is measured on served to make it; its texts are others (`check_held_back`)."""
    return material.images is None or len(material.images.without(_served(work))) == len(material.images)


def _served(work: _Work) -> Samples:
    """The images that something of the bundle was calibrated on."""
    onnx = work.projector is not None and work.projector.format == "onnx"
    return _tower_images(work) if onnx else work.full.corpus.images


def _make(work: _Work, material: Material) -> Manifest:
    """Write both parts and what stands beside them; the draft of the manifest."""
    job, recipe = work.job, work.recipe
    checkpoint, corpus = work.full.checkpoint, work.full.corpus
    towers: dict[str, TowerFacts] = {}
    target, reason = "any", "GGUF runs on any CPU: llama.cpp picks its kernels when it starts"
    if work.projector is not None:
        images = _tower_images(work)
        if material.images is not None and len(others := images.without(material.images)) >= LEAST_TO_HOLD_BACK:
            images = others
        cpu, why = pick_target(job.target)
        projecting = Projecting(
            checkpoint, work.writer, cpu, images, material.images if job.images else None, job.merge, work.label,
            work.progress,
        )  # fmt: skip
        towers["projector"] = PROJECTORS[work.projector.format](projecting, work.projector)
        if towers["projector"].format == "onnx":
            target, reason = cpu.name, f"the vision tower in ONNX: {why}"
    path = f"{work.label}-{recipe.name.upper()}.gguf"
    out = work.writer.add(path, "language")
    decisions = _write_language(work, out)
    decisions["types"] = read_header(out).types()
    if (tokens := tokens_of(checkpoint)) is not None and job.vocabulary is not None:
        scripts = say_scripts(parse_scripts(job.vocabulary))
        decisions["vocabulary"] = f"{scripts}, {len(tokens.ids):,} of {tokens.of:,} tokens"
    towers["language"] = TowerFacts(recipe.name, path, "gguf", recipe.promise.golden, decisions=decisions)
    write_companions(work.writer, checkpoint, towers)
    return Manifest(
        kind="generator", name=job.out.name, model=generator_facts(checkpoint), target=target,
        preprocessing=generator_preprocessing(checkpoint), artefacts={"gguf": Artefact(towers)},
        source=Source(
            checkpoint.folder.name, checkpoint.hashes, reason,
            Calibration(corpus.source, texts=len(corpus.texts), fingerprints=_served(work).fingerprints()),
        ),
        medge_version=__version__,
    )  # fmt: skip


def _write_language(work: _Work, out: Path) -> dict[str, Any]:
    """Write the language model by its recipe; returns what was decided."""
    job, recipe, full, progress = work.job, work.recipe, work.full, work.progress
    if recipe.name in PRECISIONS:
        write_language(full.checkpoint, out, "f16" if recipe.name == "f16" else "bf16", progress)
        return {}
    decisions: dict[str, Any] = {}
    importance, types = None, {}
    if _weighed(job, recipe):
        importance = full.importance
        decisions["importance_chunks"] = importance.chunks
    if work.size is not None:
        types = full.sensitivity.types(work.size)
        decisions["target_size"] = work.size
    progress(f"quantizing to {recipe.name}", 0, 1)
    quantize_language(full.file, out, recipe, importance=importance, types=types)
    if importance is not None and full.compensates:
        decisions["compensated"] = asdict(compensate(out, full.moments, progress))
    return decisions


def _size(job: GeneratorJob, recipe: GGUFRecipe, full: FullLanguage) -> int | None:
    """Bytes that the language model's file may have, where types are chosen for a size; asked for before anything is calibrated.

    Raises:
        RecipeError: no choice of types is so small.
    """
    size = job.target_size if recipe.bits is None else size_of(full.file, recipe.bits)
    if size is None:
        return None
    try:
        check_size(full.file, size)
    except RecipeError as error:
        raise RecipeError(f"{recipe.name if recipe.bits else '--target-size'}: {error}") from error
    return size


def _baseline(recipe: GGUFRecipe, full: FullLanguage) -> Path:
    """What llama.cpp's own quantizer makes without a matrix: what a file that a matrix weighed is held against."""
    path = full.scratch / "plain.gguf"
    quantize_language(full.file, path, recipe)
    return path


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
