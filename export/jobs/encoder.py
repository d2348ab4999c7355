"""From a checkpoint to a gated bundle: export both towers, make them smaller, measure, and only then give it its name."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ... import __version__
from ...quant.recipes.recipe import PIXELS, Recipe, all_gates
from ...runtime.bundles.bundle import Bundle, BundleWriter, new_bundle
from ...runtime.bundles.claim import claimed
from ...runtime.bundles.facts import Artefact, Calibration, Source
from ...runtime.bundles.manifest import Manifest
from ...runtime.bundles.parity_report import EncoderReport
from ...runtime.encoder.labels import LabelBank, Prompts
from ...runtime.errors import CheckpointError
from ...runtime.progress import Progress, Warn, no_progress, no_warning
from ..families.full_precision import FullPrecision
from ..families.table import family_of, open_encoder
from ..format import Format, Making
from ..pages.parity import render_parity
from ..pages.thumbnails import thumbnails
from ..pages.web_page import write_page
from ..parity.encoder import Inside, measure
from ..parity.kept_outputs import NOT_FOLLOWED, Course
from ..parity.kept_reference import NAME, KeptReference, Recorder, Reference
from ..parity.student import measure_against_teacher
from ..source.checkpoint import Checkpoint
from ..source.given import not_made_from
from ..source.samples import LEAST_TO_HOLD_BACK, Samples, builtin_samples, calibrated_on, read_samples
from ..source.student_files import ROLE as SUBSPACE_ROLE
from ..source.student_files import read_teacher, student_subspace
from .encoder_job import ExportJob, ExportPlan, read_job
from .formats import FORMATS
from .put import put
from .several import one_each

COPIED = ("tokenizer_config.json", "special_tokens_map.json")


def export_medsiglip(
    job: ExportJob, progress: Progress = no_progress, *, full: FullPrecision | None = None, warn: Warn = no_warning
) -> tuple[Bundle, dict[str, EncoderReport]]:
    """Run an export; the bundle is written even when a gate fails, and is then marked so.

    Args:
        job: what is asked for.
        progress: called as work advances.
        full: the checkpoint in full precision, where several bundles are made of it.
        warn: told of every image that can't be read.

    Returns:
        the bundle, and {format: its parity report}.

    Raises:
        MedgeError: any of its kinds; nothing stands under the final name then.
    """
    plan = read_job(job)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(new_bundle(job.out, force=job.force))  # first: an existing one is refused at once
        if full is None:
            full = stack.enter_context(_open_full(job, progress))
        profile = full.reference.profile_of(job.profile)
        if job.maps:
            full.reference.allow("maps")
        samples = full.kept(("samples", job.calibration), lambda: _samples(job.calibration, warn))
        given = full.kept(("judged", job.images, job.labelled), lambda: _judged(job, plan, warn))
        parts = full.kept(("halves", job.calibration, job.images, job.labelled), lambda: _hold_back(samples, given))
        fitted, judged = parts.fitted, parts.judged
        if plan.prompts:
            judged.check_labels(list(plan.prompts))
        _write_companions(writer, full, job, plan, profile, progress)
        manifest = _draft(full, job, plan, profile, fitted)
        inputs = {tower: full.calibration_inputs(tower, fitted, profile) for tower in plan.towers}
        reports: dict[str, EncoderReport] = {}
        for name, recipes in plan.recipes.items():
            form = FORMATS[name]
            making = Making(
                full,
                writer,
                plan.target,
                inputs,
                parts.choosing,
                given,
                profile,
                job.merge,
                job.maps,
                _metadata(manifest),
                job.options_of(name),
                progress,
            )
            towers = form.make(making, recipes)
            manifest = manifest.with_artefact(name, Artefact(towers))
            bundle = Bundle(writer.folder, writer.finish(manifest))
            form.complete(writer, form.open(bundle))
            reports[name] = replace(
                _measure(form, bundle, full.reference, full, judged, recipes, None, Course(progress)),
                held_back=parts.held_back,
            )
            manifest = manifest.with_artefact(name, Artefact(towers, reports[name].summary()))
            shown = judged if job.thumbnails else None
            for path, role, text in report_files(form, reports[name], shown):
                writer.add(path, role).write_text(text, encoding="utf-8")
        manifest = writer.finish(manifest)
    return Bundle(job.out, manifest), reports


def export_medsiglip_recipes(
    job: ExportJob, recipes: Sequence[str], progress: Progress = no_progress, *, warn: Warn = no_warning
) -> Iterator[tuple[Bundle, dict[str, EncoderReport]]]:
    """Run the same export with several recipes, each into a folder of its own under `job.out`; towers are exported once.

    Raises:
        MedgeError: any of its kinds; bundles that were made before it stay. What can be refused is refused before any is made.
    """
    jobs = one_each(job, recipes, read_job)
    with contextlib.ExitStack() as stack:
        for one in jobs:
            stack.enter_context(claimed(one.out))
        full = stack.enter_context(_open_full(job, progress))
        for one in jobs:
            yield export_medsiglip(one, progress, full=full, warn=warn)


def measure_artefact(
    form: str, bundle: Bundle, full: FullPrecision, samples: Samples, *, prompts: Prompts | None = None,
    progress: Progress = no_progress,
) -> EncoderReport:  # fmt: skip
    """Hold one artefact of a bundle against PyTorch.

    Args:
        form: the artefact's format.
        bundle: the bundle.
        full: the checkpoint that it was made from.
        samples: real images, labelled or not.
        prompts: as in `parity.encoder.measure`.
        progress: called as work advances.
    """
    recipes = FORMATS[form].recipes_of(bundle.manifest.artefacts[form].recipes)
    return _measure(FORMATS[form], bundle, full.reference, full, samples, recipes, prompts, Course(progress))


def measure_bundle(
    bundle: Bundle,
    reference: Path,
    samples: Samples,
    *,
    prompts: Prompts | None = None,
    course: Course = NOT_FOLLOWED,
    small_copies: bool = False,
    out: Path | None = None,
) -> tuple[Bundle, dict[str, EncoderReport]]:
    """`medge parity`: measure an existing bundle, every format in it.

    Where the reference is the teacher of a student's bundle, the student is held against it instead.

    Args:
        bundle: the bundle.
        reference: a checkpoint folder, or the file that an earlier run with `out` has kept of one: without the checkpoint
            there are no stages and no time in the reports.
        samples: real images, labelled or not.
        prompts: as in `parity.encoder.measure`.
        course: how it is followed, and gone on with.
        small_copies: put small copies of images into the page.
        out: a folder that gets the reports, and what of the reference is worth keeping; where None, the bundle gets the reports.

    Returns:
        the bundle, and {format, or "teacher": report}.

    Raises:
        CheckpointError: the reference is not the checkpoint that the bundle was made from, nor its teacher.
    """
    shown = samples if small_copies else None
    if reference.is_file():
        kept = KeptReference.read(reference, bundle.manifest)
        return _put(bundle, _measure_formats(bundle, kept, None, samples, prompts, course), shown, out)
    opened = open_encoder(reference)
    source = bundle.manifest.source
    if source.teacher and opened.checkpoint.hashes == source.teacher.sha256:
        report = measure_against_teacher(bundle, opened, samples, prompts=prompts, course=course)
        texts = {
            "teacher/parity.json": ("teacher.parity", report.to_json()),
            "teacher/parity.html": ("teacher.parity.page", _page(report, shown)),
        }
        return put(bundle, replace(bundle.manifest, teacher_parity=report.summary()), texts, out), {"teacher": report}
    if opened.checkpoint.hashes != source.sha256:
        raise CheckpointError(not_made_from(bundle, reference))
    with FullPrecision(opened) as full:
        recorder = Recorder(opened, course.outputs)
        reports = _measure_formats(bundle, recorder, full, samples, prompts, course)
    if out is not None:
        recorder.save(out / NAME, f"{len(samples)} images, {samples.source}")
    return _put(bundle, reports, shown, out)


def _measure_formats(
    bundle: Bundle, reference: Reference, full: FullPrecision | None, samples: Samples, prompts: Prompts | None,
    course: Course,
) -> dict[str, EncoderReport]:  # fmt: skip
    fitted = calibrated_on(samples, bundle.manifest.source.calibration)
    reports = {}
    for name, artefact in bundle.manifest.artefacts.items():
        form = FORMATS[name]
        recipes = form.recipes_of(artefact.recipes)
        report = _measure(form, bundle, reference, full, samples, recipes, prompts, replace(course, side=name))
        reports[name] = replace(report, held_back=not fitted)
    return reports


def _put(
    bundle: Bundle, reports: dict[str, EncoderReport], shown: Samples | None, out: Path | None
) -> tuple[Bundle, dict[str, EncoderReport]]:
    manifest = bundle.manifest
    texts: dict[str, tuple[str, str]] = {}
    for name, report in reports.items():
        artefact = replace(manifest.artefacts[name], parity=report.summary())
        manifest = manifest.with_artefact(name, artefact)
        texts |= {path: (role, text) for path, role, text in report_files(FORMATS[name], report, shown)}
    return put(bundle, manifest, texts, out), reports


def report_files(form: Format, report: EncoderReport, shown: Samples | None = None) -> list[tuple[str, str, str]]:
    """(path, role, text) of the report's two forms inside a bundle; the page shows images of `shown`, small."""
    place, role = (f"{form.folder}/", f"{form.name}.parity") if form.folder else ("", "parity")
    return [
        (f"{place}parity.json", role, report.to_json()),
        (f"{place}parity.html", f"{role}.page", _page(report, shown)),
    ]


def _page(report: EncoderReport, shown: Samples | None) -> str:
    return render_parity(report, pictures=thumbnails(report.plots, shown.images) if shown is not None else None)


def _samples(folder: Path | None, warn: Warn) -> Samples:
    """Images to calibrate on; pydicom's own files include broken ones, which are nobody's concern."""
    return read_samples(folder).told(warn) if folder else builtin_samples()


def _judged(job: ExportJob, plan: ExportPlan, warn: Warn) -> Samples | None:
    """Images to measure on, where they are not those of the calibration."""
    if not job.images:
        return None
    samples = read_samples(job.images, labelled=job.labelled).told(warn)
    samples.tell_unseen(plan.prompts or (), warn)
    return samples


@dataclass(frozen=True)
class _Parts:
    """Which images serve what.

    Attributes:
        fitted: to scale on.
        choosing: to choose on; none of them is judged on.
        judged: to measure on.
        held_back: whether none of them served before.
    """

    fitted: Samples
    choosing: Samples
    judged: Samples
    held_back: bool


def _hold_back(samples: Samples, given: Samples | None) -> _Parts:
    """What is given to judge on serves nothing else, where enough others are left to calibrate on.

    Where nothing is given, half of the calibration's images are held back.
    """
    if given is not None:
        others = samples.without(given)
        enough = len(others) == len(samples) or len(others) >= LEAST_TO_HOLD_BACK
        return _Parts(others if enough else samples, others, given, enough)
    if len(samples) < LEAST_TO_HOLD_BACK:
        return _Parts(samples, samples, samples, False)
    fitted, judged = samples.halves()
    return _Parts(fitted, fitted, judged, True)


def _open_full(job: ExportJob, progress: Progress) -> FullPrecision:
    checkpoint = Checkpoint.open(job.checkpoint)
    family = family_of(checkpoint)
    family.profile_of(job.profile)  # what is refused is refused before anything is computed
    for what in (*job.formats, job.target):
        family.allow(what)
    progress("loading the checkpoint", 0, 1)
    return FullPrecision(family(checkpoint))


def _draft(full: FullPrecision, job: ExportJob, plan: ExportPlan, profile: str, samples: Samples) -> Manifest:
    """The manifest before anything is made."""
    checkpoint, reference = full.checkpoint, full.reference
    return Manifest(
        kind="encoder", name=job.out.name, model=reference.facts, preprocessing=reference.preprocessing(profile),
        target=plan.target.name, artefacts={}, labels=tuple(plan.prompts or ()), medge_version=__version__,
        source=Source(
            checkpoint.folder.name, checkpoint.hashes, plan.target_reason,
            Calibration(samples.source, images=len(samples), fingerprints=samples.fingerprints()),
            read_teacher(checkpoint.folder),
        ),
    )  # fmt: skip


def _metadata(manifest: Manifest) -> dict[str, str]:
    """What a file says of itself, apart from the manifest."""
    facts = manifest.encoder
    return {
        "profile": manifest.profile, "labels": json.dumps(list(manifest.labels)), "source": manifest.source.name,
        "logit_scale": repr(facts.logit_scale), "logit_bias": repr(facts.logit_bias),
    }  # fmt: skip


def _measure(
    form: Format, bundle: Bundle, reference: Reference, full: FullPrecision | None, samples: Samples,
    recipes: Mapping[str, Recipe], prompts: Prompts | None, course: Course,
) -> EncoderReport:  # fmt: skip
    encoder = form.open(bundle)
    inside = Inside(full.reference, form.stages(encoder, full)) if full is not None else None
    return measure(
        encoder, reference, samples, inside=inside, engine=form.engine(encoder), gates=all_gates(recipes, PIXELS),
        prompts=prompts, course=course,
    )  # fmt: skip


def _write_companions(
    writer: BundleWriter, full: FullPrecision, job: ExportJob, plan: ExportPlan, profile: str, progress: Progress
) -> None:
    """What stands beside the towers whatever their format: configuration, tokenizer, labels, page."""
    checkpoint, reference = full.checkpoint, full.reference
    writer.add("config.json", "config").write_text(json.dumps(checkpoint.config, indent=2) + "\n")
    processor = json.dumps(reference.processor_config(profile), indent=2) + "\n"
    writer.add("preprocessor_config.json", "preprocessor").write_text(processor)
    writer.add("tokenizer.json", "tokenizer").write_text(reference.device_tokenizer, encoding="utf-8")
    for name in COPIED:
        if (checkpoint.folder / name).is_file():
            writer.add(name, name.removesuffix(".json")).write_bytes((checkpoint.folder / name).read_bytes())
    if (subspace := student_subspace(checkpoint.folder)) is not None:
        writer.add(subspace.name, SUBSPACE_ROLE).write_bytes(subspace.read_bytes())
    if plan.prompts:
        progress("label bank", 0, 1)
        bank = LabelBank.build(plan.prompts, reference.embed_texts)
        bank.save(writer.add("labels.safetensors", "labels"))
    if job.target == "web":
        write_page(writer, job.web_libraries)
