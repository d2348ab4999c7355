"""What `medge distill` is asked for, and whether it can be had; importing it loads no torch."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ...quant.distill.student import parse_student, student_config
from ...runtime.bundles.atomic import refuse_existing
from ...runtime.bundles.bundle import Bundle
from ...runtime.device.gguf_header import read_header
from ...runtime.encoder.labels import read_labels
from ...runtime.errors import CheckpointError, RecipeError
from ...runtime.pictures.preprocess import DEFAULT_PROFILE, get_profile
from ..families.gemma3 import open_gemma, refuse_language_model
from ..source.checkpoint import Checkpoint
from ..source.given import check_files, check_held_back, check_images, check_material, not_made_from

Engine = Literal["local", "ray"]

Precision = Literal["no", "bf16", "fp16"]

Quantize = Literal["int8", "int4"]

Divergence = Literal["forward", "reverse", "skewed"]

Method = Literal["full", "lora"]

# A prompt costs a language model far more than an image costs an encoder.
PROMPTS_PER_SHARD = 64

ENGINES: tuple[Engine, ...] = get_args(Engine)

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

QUANTIZE: tuple[Quantize, ...] = get_args(Quantize)

DIVERGENCES: tuple[Divergence, ...] = get_args(Divergence)

METHODS: tuple[Method, ...] = get_args(Method)

UNROUNDED = ("F32", "F16", "BF16")  # ggml's types that are no blocks

KEPT = "kept"  # for a student's text tower: the teacher's, as it is


@dataclass(frozen=True)
class PassOptions:
    """How the teacher goes through the data.

    Attributes:
        engine: this process, or Ray Data.
        address: of a Ray cluster; None for this machine.
        workers: Ray's processes.
        per_shard: examples between two points that an interruption can fall back to.
    """

    engine: Engine = "local"
    address: str | None = None
    workers: int = 1
    per_shard: int = 256


@dataclass(frozen=True)
class TrainOptions:
    """How the student is trained; see `quant.distill.train.Schedule`."""

    steps: int = 2000
    batch: int = 64
    accumulate: int = 1
    rate: float = 1e-3
    precision: Precision = "no"
    seed: int = 0
    save_every: int = 100
    cpu: bool = False

    def facts(self) -> dict[str, Any]:
        """What a student's weights depend on, for its report."""
        return {key: getattr(self, key) for key in ("steps", "batch", "accumulate", "rate", "precision", "seed")}


class _WithWorkplace:
    """A job whose shards and checkpoints go beside what it makes, unless another place is given."""

    out: Path
    work: Path | None

    @property
    def workplace(self) -> Path:
        return self.work or self.out.with_name(f"{self.out.name}.work")


@dataclass(frozen=True)
class EncoderDistillation(_WithWorkplace):
    """What `medge distill medsiglip` is asked for.

    Attributes:
        teacher, out: folders.
        student: a name of the table or a shape.
        images: folders of unlabelled images.
        captions: JSON lines, {"image": path below its folder, "caption": text}.
        text: "kept", or the shape of a smaller text tower.
        texts: files of lines that a smaller text tower learns from, beside medge's own and the captions.
        labels: a label bank whose scores are learned, too.
        profile: preprocessing.
        views: how often each image is seen by the teacher: as it is, and cut and toned at random.
        inherit: begin with the teacher's weights.
        quantize: finish with this recipe's rounding in place.
        quantize_steps: how long.
        work: where shards and checkpoints go; beside `out` where None.
        data, training: how.
        force: replace `out`.
    """

    teacher: Path
    out: Path
    student: str
    images: tuple[Path, ...]
    captions: Path | None = None
    text: str = KEPT
    texts: tuple[Path, ...] = ()
    labels: Path | None = None
    profile: str = DEFAULT_PROFILE
    views: int = 2
    inherit: bool = True
    quantize: Quantize | None = None
    quantize_steps: int = 200
    work: Path | None = None
    data: PassOptions = PassOptions()
    training: TrainOptions = TrainOptions()
    force: bool = False


@dataclass(frozen=True)
class GeneratorDistillation(_WithWorkplace):
    """What `medge distill medgemma` is asked for.

    Attributes:
        teacher, out: folders.
        student: a checkpoint folder, or "layers=N" for the teacher with that many of its layers.
        data: text files and JSON lines, {"text"} or {"question", "answer", "image"}.
        held_back: the same, never trained on; a fiftieth of the data where empty.
        divergence: forward, reverse or skewed KL.
        method: "full" or "lora".
        rank: of LoRA's matrices.
        length: tokens of an example.
        top: likeliest tokens of the teacher that are kept of each position.
        positions: of an example that are learned from.
        work, data_pass, training, force: as for encoders.
    """

    teacher: Path
    out: Path
    student: str
    data: tuple[Path, ...]
    held_back: tuple[Path, ...] = ()
    divergence: Divergence = "forward"
    method: Method = "full"
    rank: int = 16
    length: int = 256
    top: int = 32
    positions: int = 48
    work: Path | None = None
    data_pass: PassOptions = PassOptions(per_shard=PROMPTS_PER_SHARD)
    training: TrainOptions = TrainOptions()
    force: bool = False


@dataclass(frozen=True)
class Finish(_WithWorkplace):
    """What `medge distill finish` is asked for.

    Attributes:
        bundle, out: folders: a rounded language model, and the one to make of it.
        teacher: the checkpoint that the bundle was made from.
        data: text files and JSON lines, {"text"} or {"question", "answer", "image"}.
        held_back: the same, to judge by; a sixteenth of the data where empty.
        length, top, positions: as of `GeneratorDistillation`.
        texts, images, tasks: what the new bundle's parity is measured on.
        skip_parity: don't measure.
        work, data_pass, training, force: as for encoders.
    """

    bundle: Path
    out: Path
    teacher: Path
    data: tuple[Path, ...]
    held_back: tuple[Path, ...] = ()
    length: int = 256
    top: int = 32
    positions: int = 48
    texts: tuple[Path, ...] = ()
    images: Path | None = None
    tasks: tuple[Path, ...] = ()
    skip_parity: bool = False
    work: Path | None = None
    data_pass: PassOptions = PassOptions(per_shard=PROMPTS_PER_SHARD)
    training: TrainOptions = TrainOptions()
    force: bool = False


def check_images_job(job: EncoderDistillation) -> None:
    """Check what a MedSigLIP distillation is asked for before work begins, without torch.

    Raises:
        RecipeError, LabelError: what does not exist or does not fit.
        StorageError: the student stands there already.
        CheckpointError, ImageError, CorpusError: the teacher is not whole, or the data are not where they should be.
    """
    refuse_existing(job.out, force=job.force)
    get_profile(job.profile)
    checkpoint = Checkpoint.open(job.teacher)
    refuse_language_model(checkpoint)
    if checkpoint.config.get("model_type") == "siglip":  # another family says itself, with torch, what it can't do
        with contextlib.suppress(KeyError):  # a configuration may leave out what equals its defaults
            shapes_of(job, checkpoint)
    if job.labels:
        read_labels(job.labels)
    check_images(job.images)
    check_files([*job.texts, *([job.captions] if job.captions else ())])


def shapes_of(job: EncoderDistillation, checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    """The student's vision and text configurations.

    Raises:
        RecipeError: a shape that a tower can't have, or wider than the teacher's.
    """
    vision = student_config(parse_student(job.student), checkpoint.config["vision_config"])
    text = dict(checkpoint.config["text_config"])
    if job.text != KEPT:
        spec = parse_student(job.text)
        if spec.patch or spec.resolution:
            raise RecipeError(f"--text {job.text}: a text tower has neither patches nor a resolution")
        text = student_config(spec, text)
    if vision["hidden_size"] > checkpoint.config["vision_config"]["hidden_size"]:
        raise RecipeError(f"{job.student!r} is wider than its teacher; a student can't be")
    text["projection_size"] = vision["hidden_size"]
    return vision, text


def check_texts_job(job: GeneratorDistillation) -> None:
    """Check what a MedGemma distillation is asked for before work begins, without torch.

    Raises:
        RecipeError: the student is neither a folder nor a number of layers.
        StorageError: the student stands there already.
        CheckpointError, CorpusError: teacher or student are not whole, or the data are not where they should be.
    """
    refuse_existing(job.out, force=job.force)
    open_gemma(job.teacher)
    if Path(job.student).is_dir():
        open_gemma(Path(job.student))
    else:
        parse_layers(job.student)
    check_files([*job.data, *job.held_back])


def check_finish(job: Finish) -> None:
    """Check what a finish is asked for before work begins, without torch; the bundle's hashes are left to who opens it.

    Raises:
        StorageError: the new bundle stands there already.
        BundleError, RecipeError: the bundle is not whole, holds no language model, or one that was not rounded.
        CheckpointError: the teacher is not whole, or not what the bundle was made from.
        CorpusError, ImageError: the data are not where they should be, or serve to measure on as well.
    """
    refuse_existing(job.out, force=job.force)
    bundle = Bundle.open(job.bundle, verify=False, allow_failed_parity=True)
    if bundle.manifest.kind != "generator":
        raise RecipeError(f"{job.bundle} holds an encoder; a finish is for language models")
    file = bundle.folder / bundle.manifest.towers["language"].file
    if not set(read_header(file).types()) - set(UNROUNDED):
        recipe = bundle.manifest.towers["language"].recipe
        raise RecipeError(f"{job.bundle} is {recipe}, which rounds nothing: there is nothing to finish")
    if open_gemma(job.teacher).hashes != bundle.manifest.source.sha256:
        raise CheckpointError(not_made_from(bundle, job.teacher))
    check_files([*job.data, *job.held_back])
    check_held_back(job.data, (*job.held_back, *job.texts, *job.tasks), "--data")
    check_material(job.texts, job.images, job.tasks)


def parse_layers(student: str) -> int:
    """ "layers=N" to N.

    Raises:
        RecipeError: it is not of this form.
    """
    name, _, count = student.partition("=")
    if name != "layers" or not count.isdigit() or not int(count):
        raise RecipeError(f"{student!r} is no checkpoint folder; give one, or say layers=N")
    return int(count)
