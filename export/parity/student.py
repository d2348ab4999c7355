"""Measure a student's bundle against the teacher that it was distilled from: the same real images, each at its own size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...quant.distill.student import operations
from ...quant.distill.subspace import Subspace
from ...quant.recipes.recipe import STUDENT_GATES
from ...quant.texts.prompts import calibration_texts
from ...runtime.bundles.bundle import Bundle
from ...runtime.bundles.figures import EncoderFigures, Paired, TowerSizes
from ...runtime.bundles.parity_report import EncoderReport, judge
from ...runtime.encoder.labels import Prompts
from ...runtime.encoder.load import open_encoder
from ..families.encoder import EncoderReference
from ..source.checkpoint import read_json
from ..source.samples import Samples
from ..source.student_files import ROLE, read_subspace
from .encoder import compare_embeddings, compare_pixels, compare_texts, machine, run_text, run_vision
from .kept_outputs import NOT_FOLLOWED, Course
from .kept_reference import Recorder
from .scores import banks_of, compare_scores, score_plots


def measure_against_teacher(
    bundle: Bundle, teacher: EncoderReference, samples: Samples, *, prompts: Prompts | None = None,
    course: Course = NOT_FOLLOWED,
) -> EncoderReport:  # fmt: skip
    """Compare a student with its teacher.

    Embeddings are compared in the student's subspace, scores as each of the two gives them.

    Args:
        bundle: the student's.
        teacher: in full precision.
        samples: real images, labelled for the gates.
        prompts: as in `parity.measure`.
        course: how it is followed, and gone on with.
    """
    encoder, manifest = open_encoder(bundle, device="cpu"), bundle.manifest
    path = bundle.path(ROLE)
    width = manifest.encoder.embedding_size
    subspace = read_subspace(path) if path else Subspace(np.eye(width, dtype=np.float32), 1.0)
    kept = Recorder(teacher, course.outputs)
    banks = banks_of(encoder, kept, samples, prompts)
    vision = run_vision(encoder, kept, samples, banks, course)
    texts = calibration_texts() if "text" in encoder.towers else []
    run = run_text(encoder, kept, texts, course) if texts else None
    scores = banks.score(vision.reference, vision.bundle, samples)
    answers, projected = compare_scores(scores), subspace.project(vision.reference)
    weights = sum(bundle.tower_bytes(tower) for tower in encoder.towers.values())
    figures = EncoderFigures(
        pixels=compare_pixels(encoder, samples),
        vision=compare_embeddings(projected, vision.bundle),
        text=compare_texts(encoder, texts, run, subspace.project) if run else None,
        scores=replace(answers, accuracy_kept=_kept(answers.accuracy), auc_kept=_kept(answers.auc)),
        size=TowerSizes(weights, weights / (4 * teacher.facts.parameters)),
        operations_to_teacher=operations(_vision_config(bundle)) / operations(teacher.checkpoint.config["vision_config"]),
    )  # fmt: skip
    return EncoderReport(
        made=teacher.checkpoint.made_today(), bundle=manifest.name,
        reference=f"its teacher {teacher.checkpoint.folder.name}", machine=machine(manifest.target),
        recipes={tower: facts.recipe for tower, facts in encoder.towers.items()}, profile=manifest.profile,
        images=len(samples), texts=len(texts), labelled=samples.truth is not None, figures=figures, stages={},
        gates=judge(figures, STUDENT_GATES), plots=score_plots(scores, projected, vision.bundle),
    )  # fmt: skip


def _kept(task: Paired | None) -> float | None:
    """The student's share of what the teacher reaches."""
    return task.bundle.value / task.reference.value if task and task.reference.value > 0 else None


def _vision_config(bundle: Bundle) -> dict[str, Any]:
    return dict(read_json(bundle.folder / "config.json")["vision_config"])
