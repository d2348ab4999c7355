"""What `medge parity` is asked for, and how a bundle of each kind is measured."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...runtime.bundles.bundle import Bundle
from ...runtime.bundles.manifest import KindName, sha256_file
from ...runtime.bundles.parity_report import ParityReport
from ...runtime.device.cpu import pick_target
from ...runtime.encoder.labels import read_labels
from ...runtime.errors import CheckpointError
from ...runtime.progress import Progress, Warn, no_progress, no_warning
from ..parity.kept_outputs import Course, TellRow, kept_outputs, no_row, versions
from ..parity.kept_reference import KeptReference
from ..source.checkpoint import Checkpoint
from ..source.given import check_files, check_images, check_labelled, check_material, not_made_from
from ..source.samples import builtin_samples, read_samples

Reports = Mapping[str, ParityReport]  # {format, or "teacher": report}


@dataclass(frozen=True)
class Measuring:
    """What a bundle is measured against and on.

    Attributes:
        reference: the checkpoint that it was made from, or a student's teacher; of an encoder, also the file that an earlier
            run has kept of its checkpoint.
        images, labelled: real images; pydicom's own where None.
        texts, tasks: for a language model.
        labels: a label file; for an encoder.
        beside: measured bundles of the same language model, drawn beside it.
        warn: told of every image that can't be read.
        progress: called as work advances.
        row: told of each image, prompt or question as it is done.
        thumbnails: put small copies of single images into an encoder's page.
        out: a folder that gets the reports in the place of the bundle.
        place: beside which outputs are kept until all is done; the bundle where None.
    """

    reference: Path
    images: Path | None = None
    labelled: bool = False
    texts: tuple[Path, ...] = ()
    tasks: tuple[Path, ...] = ()
    labels: Path | None = None
    beside: tuple[Path, ...] = ()
    warn: Warn = no_warning
    progress: Progress = no_progress
    row: TellRow = no_row
    thumbnails: bool = False
    out: Path | None = None
    place: Path | None = None


def check(bundle: Bundle, asked: Measuring) -> None:
    """Check everything that can be checked before work begins, without torch.

    Raises:
        CheckpointError: the reference is not whole, or its configuration is neither that of the bundle's checkpoint nor that
            of its teacher.
        LabelError, ImageError, CorpusError: what is measured on is not where it should be, or does not fit the labels.
    """
    if asked.reference.is_file():
        _check_kept(bundle, asked.reference)
    else:
        _check_checkpoint(bundle, asked.reference)
    _check_material(bundle, asked)


def _check_kept(bundle: Bundle, path: Path) -> None:
    if bundle.manifest.kind != "encoder":
        raise CheckpointError(
            f"{path} is a file; a language model is measured against its checkpoint, whose logits would take gigabytes to keep"
        )
    KeptReference.read(path, bundle.manifest)


def _check_checkpoint(bundle: Bundle, folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    source = bundle.manifest.source
    made_from = [source.sha256, source.teacher.sha256 if source.teacher else {}]
    found = sha256_file(checkpoint.folder / "config.json")  # of the weights, gigabytes, when work begins
    if found not in [hashes.get("config.json") for hashes in made_from]:
        raise CheckpointError(not_made_from(bundle, folder))


def _check_material(bundle: Bundle, asked: Measuring) -> None:
    prompts = read_labels(asked.labels) if asked.labels else None
    if bundle.manifest.kind == "encoder":
        check_images([asked.images] if asked.images else ())
        if asked.labelled:
            check_labelled(asked.images, prompts or bundle.manifest.labels)
    else:
        check_material(asked.texts, asked.images, asked.tasks)
        check_files(folder / "parity.json" for folder in asked.beside)


def measure(bundle: Bundle, measuring: Measuring, made: object) -> Reports:
    """Measure every artefact of a bundle, and put the results into it or into `measuring.out`.

    What was computed is kept beside `measuring.place` until all is done: stopped, the same measurement goes on where it was.

    Args:
        made: what decides the outputs, from `made_with`; what was kept of other outputs is not gone on with.

    Raises:
        CheckpointError: the reference is not the checkpoint that the bundle was made from.
        PlaceTakenError: another process measures for the same place.
        StorageError: the file system refused.
    """
    with kept_outputs(measuring.place or bundle.folder, made) as outputs:
        course = Course(measuring.progress, outputs, measuring.row)
        return MEASURES[bundle.manifest.kind](bundle, measuring, course)


def made_with(bundle: Bundle, asked: Measuring) -> list[object]:
    """What decides a measurement's outputs, apart from what it is measured on; `check` has found all of it.

    It hashes the reference's file, so it is asked for once.
    """
    manifest, reference = bundle.manifest, asked.reference
    of = reference if reference.is_file() else reference / "config.json"
    made = [(entry.path, entry.sha256) for entry in manifest.files if "parity" not in entry.role]
    teacher = manifest.source.teacher.sha256 if manifest.source.teacher else {}
    return [
        made, manifest.profile, sorted(manifest.source.sha256.items()), sorted(teacher.items()), sha256_file(of),
        versions(), platform.machine(), pick_target()[0].name,
    ]  # fmt: skip


def _measure_encoder(bundle: Bundle, asked: Measuring, course: Course) -> Reports:
    given = read_samples(asked.images, labelled=asked.labelled).told(asked.warn) if asked.images else None
    samples = given or builtin_samples()
    prompts = read_labels(asked.labels) if asked.labels else None
    samples.tell_unseen(prompts or bundle.manifest.labels, asked.warn)
    from .encoder import measure_bundle

    return measure_bundle(
        bundle,
        asked.reference,
        samples,
        prompts=prompts,
        course=course,
        small_copies=asked.thumbnails,
        out=asked.out,
    )[1]


def _measure_generator(bundle: Bundle, asked: Measuring, course: Course) -> Reports:
    from .generator import material_of, measure_generator_bundle

    sees = bundle.manifest.generator.image_tokens > 0
    material = material_of(asked.texts, asked.images, asked.tasks, sees=sees, warn=asked.warn)
    _, report = measure_generator_bundle(
        bundle, asked.reference, material, beside=asked.beside, course=course, out=asked.out
    )
    return {"gguf": report}


MEASURES: dict[KindName, Callable[[Bundle, Measuring, Course], Reports]] = {
    "encoder": _measure_encoder, "generator": _measure_generator,
}  # fmt: skip
