"""Distil a MedSigLIP into a smaller one, an ordinary checkpoint that everything else takes unchanged."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import save_model
from transformers import SiglipConfig, SiglipModel

from ...quant.distill import losses
from ...quant.distill.fake_quantize import fake_quantized
from ...quant.distill.inherit import (
    channel_energy,
    inherit_pooling_head,
    inherit_text_head,
    inherit_tower,
    project_text_head,
)
from ...quant.distill.shards import PassPlan, ShardSet
from ...quant.distill.student import operations
from ...quant.distill.subspace import Subspace, principal_subspace
from ...quant.distill.train import Curve, Objective, process_state, split_held_back, train
from ...quant.texts.prompts import calibration_texts, medical_texts, prompt_texts
from ...runtime.bundles import metrics
from ...runtime.bundles.atomic import atomic_folder
from ...runtime.bundles.manifest import sha256_json
from ...runtime.encoder.labels import LabelBank, read_labels
from ...runtime.errors import DistillationError, ImageError
from ...runtime.pictures.images import Refused, read_image
from ...runtime.progress import Progress, no_progress
from ..families.siglip import Reference, processor_config
from ..families.table import family_of
from ..pages.distillation import Distillation
from ..source.checkpoint import Checkpoint
from ..source.corpus import read_captions, read_text
from ..source.student_files import SUBSPACE
from .image_teacher import ImageTeacher, as_pixels, digest, list_images
from .job import KEPT, EncoderDistillation, check_images_job, shapes_of
from .steps import one_run, schedule_of, teacher_pass, write_result

COPIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")
RELATIONAL, CONTRASTIVE, LABELS = 0.5, 0.05, 0.2  # weights beside the regression's 1
SUBSPACE_SAMPLE = 50_000  # embeddings that the subspace is found from
ENERGY_SAMPLE = 64  # inputs by which the teacher's channels are ranked


class EmbeddingTower(torch.nn.Module):
    """A tower that gives unit-length embeddings: (N, 3, S, S) pixels or (N, L) token ids to (N, D)."""

    def __init__(self, tower: torch.nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.tower(given).pooler_output.float(), dim=-1)


@dataclass(frozen=True)
class Extras:
    """What beside embeddings is learned from, where there is any.

    Attributes:
        captions: unit-length embeddings in the subspace, (M, D).
        caption_of: (images,) the number of each image's caption, -1 for none; None without captions.
        bank, teacher_bank: label embeddings in the subspace and as the teacher has them.
        scale, bias: of the logits.
    """

    captions: torch.Tensor
    caption_of: NDArray[np.int32] | None
    bank: torch.Tensor | None
    teacher_bank: torch.Tensor | None
    scale: torch.Tensor
    bias: torch.Tensor


class ImageObjective:
    """The student's image embeddings are the teacher's, in the subspace."""

    def __init__(
        self, shards: ShardSet, sample: NDArray[np.float32], subspace: Subspace, extras: Extras,
        folder_of: NDArray[np.intp], seed: int,
    ) -> None:  # fmt: skip
        self._shards, self._subspace, self._extras = shards, subspace, extras
        images = shards.all("image")
        kept, held = split_held_back(int(images.max()) + 1, seed)
        # All views of an image are held back, or none.
        self._train = balanced(np.flatnonzero(np.isin(images, kept)), folder_of[images])
        self._held = np.flatnonzero(np.isin(images, held))
        self._images = images
        self._mean = torch.from_numpy(subspace.project(sample).mean(0))

    def __len__(self) -> int:
        return len(self._train)

    @property
    def held(self) -> int:
        return len(self._held)

    def terms(self, model: torch.nn.Module, rows: NDArray[np.intp], step: int) -> dict[str, torch.Tensor]:
        numbers = self._train[rows]
        student, original = self._student(model, numbers), self._shards.rows("embedding", numbers)
        teacher = torch.from_numpy(self._subspace.project(original)).to(student.device)
        mean = self._mean.to(student.device)
        found = {
            "regression": losses.regression(student, teacher, mean),
            "relational": RELATIONAL * losses.relational(student, teacher, mean),
        }
        e = self._extras
        if e.caption_of is not None:
            caption_of = e.caption_of[self._images[numbers]]
            with_one = np.flatnonzero(caption_of >= 0)
            if len(with_one):
                different, own = np.unique(caption_of[with_one], return_inverse=True)
                same = torch.from_numpy(own[:, None] == np.arange(len(different))).to(student.device)
                texts = e.captions[different].to(student.device)
                found["contrastive"] = CONTRASTIVE * losses.contrastive(
                    student[with_one], texts, same, e.scale.to(student.device), e.bias.to(student.device)
                )
        if e.bank is not None and e.teacher_bank is not None:
            device = student.device
            found["labels"] = LABELS * losses.label_scores(
                student, torch.from_numpy(original).to(device), e.bank.to(device), e.teacher_bank.to(device),
                e.scale.to(device),
            )  # fmt: skip
        return found

    def held_back(self, model: torch.nn.Module) -> dict[str, float]:
        if not len(self._held):
            return {}
        parts = np.array_split(self._held, -(-len(self._held) // 64))
        ours = torch.cat([self._student(model, part).cpu() for part in parts])
        theirs = torch.from_numpy(self._subspace.project(self._shards.rows("embedding", self._held)))
        cosine = metrics.cosine((ours - self._mean).numpy(), (theirs - self._mean).numpy())
        return {
            "regression": float(losses.regression(ours, theirs, self._mean)),
            "centred_cosine": float(cosine.mean()),
        }

    def _student(self, model: torch.nn.Module, numbers: NDArray[np.intp]) -> torch.Tensor:
        device = next(model.parameters()).device
        found: torch.Tensor = model(as_pixels(self._shards.rows("pixels", numbers), device))
        return found


class TextObjective:
    """The student's text embeddings are the teacher's, in the subspace."""

    def __init__(self, ids: NDArray[np.int64], embeddings: NDArray[np.float32], seed: int) -> None:
        self._ids, self._targets = torch.from_numpy(ids), torch.from_numpy(embeddings)
        self._train, self._held = split_held_back(len(ids), seed)
        self._mean = self._targets.mean(0)

    def __len__(self) -> int:
        return len(self._train)

    def terms(self, model: torch.nn.Module, rows: NDArray[np.intp], step: int) -> dict[str, torch.Tensor]:
        numbers = self._train[rows]
        device = next(model.parameters()).device
        student: torch.Tensor = model(self._ids[numbers].to(device))
        teacher, mean = self._targets[numbers].to(device), self._mean.to(device)
        return {
            "regression": losses.regression(student, teacher, mean),
            "relational": RELATIONAL * losses.relational(student, teacher, mean),
        }

    def held_back(self, model: torch.nn.Module) -> dict[str, float]:
        if not len(self._held):
            return {}
        device = next(model.parameters()).device
        student = model(self._ids[self._held].to(device)).cpu()
        teacher = self._targets[self._held]
        return {"regression": float(losses.regression(student, teacher, self._mean))}


def balanced(examples: NDArray[np.intp], folder_of: NDArray[np.intp]) -> NDArray[np.intp]:
    """Examples, those of small folders repeated so that a folder counts by about the square root of its size.

    Archives differ in size by orders of magnitude; a rare kind of image would hardly be learned, or with equal shares be
    learned by heart.

    Args:
        examples: numbers.
        folder_of: the folder of each example, by its number.
    """
    folders, counts = np.unique(folder_of[examples], return_counts=True)
    repeats = dict(zip(folders.tolist(), np.rint(np.sqrt(counts.max() / counts)).astype(int).tolist(), strict=True))
    return np.repeat(examples, [repeats[folder] for folder in folder_of[examples].tolist()])


def distill_medsiglip(job: EncoderDistillation, progress: Progress = no_progress) -> tuple[Distillation, list[Refused]]:
    """Run a distillation, from where an earlier run of the same job was interrupted.

    Returns:
        what came of it, and a message for each image that could not be read.

    Raises:
        MedgeError: any of its kinds; nothing stands under the final name then, and the work folder stays for going on.
    """
    check_images_job(job)
    with one_run(job.out, job.training):
        return _distill(job, progress)


def _distill(job: EncoderDistillation, progress: Progress) -> tuple[Distillation, list[Refused]]:
    checkpoint = Checkpoint.open(job.teacher)
    family = family_of(checkpoint)
    family.allow("distillation")
    family.profile_of(job.profile)
    vision, text = shapes_of(job, checkpoint)
    paths = list_images(job.images)
    captions, caption_of = read_captions(job.captions, paths, job.images) if job.captions else ([], None)
    labels = read_labels(job.labels) if job.labels else None
    work, side = job.workplace, int(vision["image_size"])
    facts: dict[str, Any] = {
        "teacher": checkpoint.hashes, "profile": job.profile, "side": side, "views": job.views,
        "seed": job.training.seed, "archive": digest(paths),
    }  # fmt: skip
    plan = PassPlan(work / "images", len(paths), job.data.per_shard, facts)
    state = process_state(cpu=job.training.cpu)
    make_teacher = partial(ImageTeacher, job.teacher, paths, job.profile, side, job.views, job.training.seed)
    shards = teacher_pass(plan, make_teacher, job.data, state, "teacher: images", progress)
    skipped = [Refused(str(paths[number]), _why(paths[number])) for number in shards.skipped]
    if not len(shards):
        raise DistillationError(f"none of {len(paths)} images could be read; the first: {skipped[0].error}")
    teacher = Reference(checkpoint)
    texts = _texts(job.texts, captions)
    progress("teacher: texts", 0, len(texts))
    text_targets = teacher.embed_texts(texts)
    sample = shards.sample("embedding", SUBSPACE_SAMPLE)
    subspace = principal_subspace([sample, text_targets], vision["hidden_size"])
    student, inherited = _begin(job, teacher, vision, text, shards, texts, subspace)
    projected, place = subspace.project(text_targets), {text: number for number, text in enumerate(texts)}
    extras = _extras(teacher, subspace, projected[[place[caption] for caption in captions]], caption_of, labels)
    images = ImageObjective(shards, sample, subspace, extras, _folder_numbers(paths, job.images), job.training.seed)
    words = TextObjective(teacher.text_ids(texts), projected, job.training.seed)
    run = {
        **facts, "student": job.student, "inherit": job.inherit, "captions": sha256_json(captions), "labels": sha256_json(labels),
    }  # fmt: skip
    curves = _train_tower(job, "vision", student.vision_model, images, run, progress)
    trains_text = job.text != KEPT or job.quantize is not None
    if trains_text:
        about = {**run, "text": job.text, "texts": sha256_json(texts)}
        # A word that no text holds can learn nothing, and would decay; the table stays as the teacher has it.
        frozen = student.text_model.embeddings.token_embedding
        curves |= _train_tower(job, "text", student.text_model, words, about, progress, frozen=frozen)
    with torch.no_grad():
        figures = images.held_back(EmbeddingTower(student.vision_model))
        if trains_text:
            figures["text_regression"] = words.held_back(EmbeddingTower(student.text_model)).get("regression", 0.0)
    result = Distillation(
        made=checkpoint.made_today(),
        kind="medsiglip", student=job.student, teacher={"name": checkpoint.folder.name, "sha256": checkpoint.hashes},
        facts={
            **_settings(job), **_size(vision, checkpoint),
            "images": len(paths) - len(skipped), "skipped": len(skipped), "held_back_images": images.held,
            "texts": len(texts), "captions": len(captions), "inherited_layers": inherited, "subspace_kept": subspace.kept,
        },
        figures=figures, curves={name: curve.rows for name, curve in curves.items()},
    )  # fmt: skip
    if not state.is_main_process:
        return result, skipped
    _write(job, checkpoint, student, vision, text, subspace, result)
    for name in ("train-vision", "train-text", "finish-vision", "finish-text"):
        shutil.rmtree(work / name, ignore_errors=True)
    return result, skipped


def _settings(job: EncoderDistillation) -> dict[str, Any]:
    """What the user chose, for the page."""
    return {
        "views": job.views, "profile": job.profile, "text_tower": job.text, "quantize": job.quantize,
        "quantize_steps": job.quantize_steps, "training": job.training.facts(),
    }  # fmt: skip


def _size(vision: dict[str, Any], teacher: Checkpoint) -> dict[str, float]:
    """Operations of the student's vision tower on an image, and to the teacher's."""
    count = operations(vision)
    return {"operations": count, "operations_to_teacher": count / operations(teacher.config["vision_config"])}


def _train_tower(
    job: EncoderDistillation, name: str, tower: Any, objective: Objective, about: dict[str, Any], progress: Progress, *,
    frozen: torch.nn.Module | None = None,
) -> dict[str, Curve]:  # fmt: skip
    """Train a tower in place, and finish it with rounded weights where the job says so; one curve for each of the two.

    Args:
        about: what the run depends on, as in `train`.
        frozen: a part of the tower that stays as it is.
    """
    curves: dict[str, Curve] = {}
    schedule = schedule_of(job.training)
    module = EmbeddingTower(tower).requires_grad_(True)
    if frozen is not None:
        frozen.requires_grad_(False)
    if schedule.steps and not (name == "text" and job.text == KEPT):
        curves[name] = train(
            module, objective, schedule, job.workplace / f"train-{name}", about, what=f"training: {name}",
            cpu=job.training.cpu, progress=progress,
        )  # fmt: skip
    if job.quantize:
        # Rounded weights need small steps: a tenth of the rate.
        finish = replace(schedule, steps=job.quantize_steps, rate=schedule.rate / 10)
        with fake_quantized(module, job.quantize):
            curves[f"{name}, {job.quantize} in place"] = train(
                module, objective, finish, job.workplace / f"finish-{name}", {**about, "finish": job.quantize},
                what=f"{job.quantize}: {name}", cpu=job.training.cpu, progress=progress,
            )  # fmt: skip
    tower.to("cpu").eval().requires_grad_(False)
    return curves


def _folder_numbers(paths: Sequence[Path], folders: Sequence[Path]) -> NDArray[np.intp]:
    """The number of each image's folder; the last one where folders lie in each other."""
    return np.array([max(n for n, f in enumerate(folders) if path.is_relative_to(f)) for path in paths], np.intp)


def _begin(
    job: EncoderDistillation, teacher: Reference, vision: dict[str, Any], text: dict[str, Any], shards: ShardSet,
    texts: Sequence[str], subspace: Subspace,
) -> tuple[SiglipModel, list[int]]:  # fmt: skip
    """The student before training: drawn from the seed, then given what fits of the teacher."""
    torch.manual_seed(job.training.seed)
    config = SiglipConfig(vision_config=vision, text_config=text)
    config._attn_implementation = "sdpa"
    student = SiglipModel(config)
    original = teacher.model
    student.logit_scale.data.copy_(original.logit_scale)
    student.logit_bias.data.copy_(original.logit_bias)
    head = project_text_head(original.text_model.head, subspace)
    if job.text == KEPT:
        student.text_model = copy.deepcopy(original.text_model)
        student.text_model.head = head
    if not job.inherit:
        return student, []
    side, own = vision["image_size"], original.config.vision_config.image_size
    pixels = as_pixels(shards.sample("pixels", ENERGY_SAMPLE))
    if side != own:
        pixels = F.interpolate(pixels, (own, own), mode="bilinear", antialias=True)
    energy = torch.stack([channel_energy(original.vision_model, pixel_values=part) for part in pixels.split(8)]).sum(0)
    taken = inherit_tower(student.vision_model, original.vision_model, energy)
    inherit_pooling_head(student.vision_model, original.vision_model, energy, subspace)
    if job.text != KEPT:
        few = torch.from_numpy(teacher.text_ids(list(texts)[:ENERGY_SAMPLE]))
        energy = channel_energy(original.text_model, input_ids=few)
        inherit_tower(student.text_model, original.text_model, energy)
        inherit_text_head(student.text_model, head, energy)
    return student, taken


def _extras(
    teacher: Reference, subspace: Subspace, captions: NDArray[np.float32], caption_of: NDArray[np.int32] | None,
    labels: dict[str, list[str]] | None,
) -> Extras:  # fmt: skip
    bank = teacher_bank = None
    if labels:
        theirs = LabelBank.build(labels, teacher.embed_texts).embeddings
        ours = LabelBank.build(labels, lambda texts: subspace.project(teacher.embed_texts(texts))).embeddings
        bank, teacher_bank = torch.from_numpy(ours), torch.from_numpy(theirs)
    scale, bias = teacher.model.logit_scale.exp().detach(), teacher.model.logit_bias.detach()
    return Extras(torch.from_numpy(captions), caption_of, bank, teacher_bank, scale, bias)


def _texts(files: Sequence[Path], captions: Sequence[str]) -> list[str]:
    """What the text tower, and the subspace, are fitted to: medge's own prompts, the user's lines and captions."""
    lines = [line.strip() for path in files for line in read_text(path).splitlines() if line.strip()]
    sentences = [part.strip() for text in medical_texts() for part in text.split(". ") if part.strip()]
    return list(dict.fromkeys([*calibration_texts(), *prompt_texts(), *sentences, *lines, *captions]))


def _why(path: Path) -> str:
    """The reason why an image was skipped; reading it again costs nothing beside a teacher's pass."""
    try:
        read_image(path)
    except ImageError as error:
        return str(error)
    return f"{path}: could not be read during the pass, but can be now; its shard stays without it"


def _write(
    job: EncoderDistillation, checkpoint: Checkpoint, student: SiglipModel, vision: dict[str, Any], text: dict[str, Any],
    subspace: Subspace, result: Distillation,
) -> None:  # fmt: skip
    with atomic_folder(job.out, force=job.force) as folder:
        config = {**checkpoint.config, "vision_config": vision, "text_config": text}
        processor = processor_config(vision["image_size"], job.profile)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
        for name in COPIED:
            if (checkpoint.folder / name).is_file():
                shutil.copyfile(checkpoint.folder / name, folder / name)
        save_model(student, str(folder / "model.safetensors"), {"format": "pt"})
        save_file({"rows": subspace.rows}, folder / SUBSPACE)
        write_result(folder, result)
        if job.labels:
            shutil.copyfile(job.labels, folder / f"labels{job.labels.suffix}")
