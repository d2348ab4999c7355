"""From a rounded language model's bundle to one that was finished: learn, write, measure, and only then give it its name."""

from __future__ import annotations

import gc
import shutil
from dataclasses import replace
from pathlib import Path

from ... import __version__
from ...quant.distill.train import process_state
from ...runtime.bundles.bundle import Bundle, BundleWriter, new_bundle
from ...runtime.bundles.manifest import Manifest
from ...runtime.bundles.parity_report import GeneratorReport
from ...runtime.errors import DistillationError
from ...runtime.generator.generator import Generator
from ...runtime.golden.generator import write_golden_answers
from ...runtime.progress import Progress, Warn, no_progress, no_warning
from ..distill.finish import finish
from ..distill.job import Finish, check_finish
from ..distill.steps import one_run, write_result
from ..families.cut_vocabulary import cut
from ..families.gemma3 import open_gemma
from ..pages.distillation import Distillation
from ..parity.kept_outputs import Course
from ..source.corpus import images_in
from ..source.samples import and_fingerprints
from ..to_gguf.vocabulary import tokens_in
from .generator import material_of, measure_generator_bundle

NOT_COPIED = ("golden", "parity", "parity.page")  # of the file as it was


def finish_bundle(
    job: Finish, progress: Progress = no_progress, *, warn: Warn = no_warning
) -> tuple[Bundle, GeneratorReport | None, Distillation]:
    """Run a finish, from where an earlier run of the same job was interrupted.

    Args:
        job: what is asked for.
        progress: called as work advances.
        warn: told of every image that can't be read.

    Returns:
        the new bundle, its parity report unless `job.skip_parity`, and what was learned.

    Raises:
        MedgeError: any of its kinds; nothing stands under the final name then, and the work folder stays for going on.
    """
    check_finish(job)
    if process_state(cpu=job.training.cpu).num_processes > 1:
        raise DistillationError("a finish runs in one process: start it without accelerate launch")
    bundle, checkpoint = Bundle.open(job.bundle, allow_failed_parity=True), open_gemma(job.teacher)
    with one_run(job.out, job.training), new_bundle(job.out, force=job.force) as writer:
        file = _copied(bundle, writer)
        if (tokens := tokens_in(file, checkpoint)) is not None:
            checkpoint = cut(checkpoint, tokens)
        result, skipped = finish(job, checkpoint, file, progress)
        gc.collect()  # parametrized weights hold themselves, and measuring needs their memory
        for refused in skipped:
            warn(refused)
        manifest = _manifest(job, bundle, result)
        made = Bundle(writer.folder, writer.finish(manifest))
        with Generator(made, context=2048) as generator:
            write_golden_answers(generator, writer.add("golden.safetensors", "golden"))
        writer.add("distillation.json", "distillation")
        writer.add("distillation.html", "distillation.page")
        write_result(writer.folder, result)
        made, report = Bundle(writer.folder, writer.finish(manifest)), None
        if not job.skip_parity:
            material = material_of(job.texts, job.images, job.tasks, sees=made.manifest.generator.image_tokens > 0)
            made, report = measure_generator_bundle(made, job.teacher, material, course=Course(progress))
    shutil.rmtree(job.workplace / "train", ignore_errors=True)
    return Bundle(job.out, made.manifest), report, result


def _copied(bundle: Bundle, writer: BundleWriter) -> Path:
    """Copy a bundle's files into a new one; returns where the language model lies there."""
    for entry in bundle.manifest.files:
        if entry.role not in NOT_COPIED:
            shutil.copyfile(bundle.folder / entry.path, writer.add(entry.path, entry.role))
    return writer.folder / bundle.manifest.towers["language"].file


def _manifest(job: Finish, bundle: Bundle, result: Distillation) -> Manifest:
    """The bundle's manifest with what was learned, and with the images that it was learned on."""
    artefact = bundle.manifest.artefacts["gguf"]
    language = artefact.towers["language"]
    finished = {
        "examples": result.facts["examples"], "steps": job.training.steps, "factors": result.facts["factors"],
        **result.figures,
    }  # fmt: skip
    towers = {**artefact.towers, "language": replace(language, decisions={**language.decisions, "finished": finished})}
    source = bundle.manifest.source
    if source.calibration is not None:
        source = replace(source, calibration=and_fingerprints(source.calibration, images_in(job.data)))
    manifest = replace(bundle.manifest, name=job.out.name, source=source, medge_version=__version__)
    return manifest.with_artefact("gguf", replace(artefact, towers=towers, parity=None))
