"""Measure a bundle against the full-precision PyTorch model on the same real images, stage by stage.

Two hops are reported wherever both can be: PyTorch to the exported fp32 graph (the exporter's faults) and that graph to
the bundle (the quantizer's). The gates judge the whole way, PyTorch to bundle.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...quant.texts.prompts import calibration_texts
from ...runtime.bench.ratio import Took, time_ratio, timed
from ...runtime.bundles import metrics
from ...runtime.bundles.figures import (
    EmbeddingFigures,
    EncoderFigures,
    Interval,
    PixelFigures,
    SpeedFigures,
    Spread,
    TowerSizes,
)  # fmt: skip
from ...runtime.bundles.gates import Gate
from ...runtime.bundles.parity_report import EncoderReport, judge
from ...runtime.encoder.encoder import Encoder
from ...runtime.encoder.labels import Prompts
from ...runtime.pictures.preprocess import Pixels, get_profile
from ..families.encoder import EncoderReference, at_once
from ..format import StageSource
from ..source.samples import Samples, spread
from .kept_outputs import NOT_FOLLOWED, Course
from .kept_reference import Reference, image_key, text_key
from .pixels import reference_pixels
from .scores import Banks, banks_of, compare_scores, score_plots
from .stages import STAGE_SAMPLES, compare_stages

Array = NDArray[Any]
# Of a report, whose subject is something else; the turns of a large model are long.
MOST_TURNS, SPEED_SECONDS = 12, 4.0


@dataclass(frozen=True)
class TowerRun:
    """One tower on both sides: embeddings (N, D), and the inputs whose stages are compared."""

    reference: NDArray[np.float32]
    bundle: NDArray[np.float32]
    stage_inputs: Array


@dataclass(frozen=True)
class Inside:
    """What looks into the towers, for their stages and their time; that takes the checkpoint.

    Attributes:
        exact: the PyTorch model.
        stages: what computes the stages of the full-precision artefact and of the bundle.
    """

    exact: EncoderReference
    stages: StageSource


def measure(
    encoder: Encoder, reference: Reference, samples: Samples, *, inside: Inside | None, engine: Mapping[str, str],
    gates: Iterable[Gate], prompts: Prompts | None = None, course: Course = NOT_FOLLOWED,
) -> EncoderReport:  # fmt: skip
    """Compare a bundle with its reference.

    Args:
        encoder: the bundle, opened.
        reference: the PyTorch model it was made from, or what an earlier run has kept of it.
        samples: real images, labelled or not.
        inside: what looks into the towers; None without the checkpoint.
        engine: what runs the bundle.
        gates: what the figures are held against.
        prompts: prompts per label for the scores. Without: the bundle's baked labels; where it has none, the folder names
            in the default wordings.
        course: how it is followed, and gone on with.

    Raises:
        LabelError: the images' folders are not all labels.
    """
    manifest = encoder.manifest
    banks = banks_of(encoder, reference, samples, prompts)
    vision = run_vision(encoder, reference, samples, banks, course)
    texts = calibration_texts() if "text" in encoder.towers else []
    runs = {"vision": vision}
    if texts:
        runs["text"] = run_text(encoder, reference, texts, course)
    scores = banks.score(vision.reference, vision.bundle, samples)
    figures = EncoderFigures(
        pixels=compare_pixels(encoder, samples), vision=compare_embeddings(vision.reference, vision.bundle),
        text=compare_texts(encoder, texts, runs["text"], lambda embeddings: embeddings) if texts else None,
        scores=compare_scores(scores), size=_sizes(encoder),
        speed=_speed(encoder, inside.exact, vision.stage_inputs[:1]) if inside and inside.stages.timed else None,
    )  # fmt: skip
    compared = {
        tower: compare_stages(inside.stages, inside.exact, tower, run.stage_inputs[:STAGE_SAMPLES])
        for tower, run in runs.items() if inside
    }  # fmt: skip
    recipes = {tower: facts.recipe for tower, facts in encoder.towers.items()}
    return EncoderReport(
        made=reference.made_today(), bundle=manifest.name, reference=reference.name,
        machine={**machine(manifest.target), **engine}, recipes=recipes, profile=manifest.profile, images=len(samples),
        texts=len(texts), labelled=samples.truth is not None, figures=figures, stages=compared, gates=judge(figures, gates),
        plots=score_plots(scores, vision.reference, vision.bundle),
    )  # fmt: skip


def compare_pixels(encoder: Encoder, samples: Samples) -> PixelFigures:
    """The bundle's resized image against independent code, in grey levels, on a spread of the images."""
    side, profile = encoder.manifest.encoder.image_size, encoder.manifest.profile
    worst, unequal, total = 0, 0, 0
    for index in spread(len(samples), 64):
        image = samples.images[index]
        ours = encoder.resize(image).astype(np.int16)
        error = np.abs(ours - reference_pixels(image, profile, side))
        worst, unequal, total = max(worst, int(error.max())), unequal + int((error > 0).sum()), total + error.size
    return PixelFigures(worst, unequal / total)


def run_vision(
    encoder: Encoder, reference: Reference, samples: Samples, banks: Banks, course: Course = NOT_FOLLOWED
) -> TowerRun:
    """Embed images on both sides, each at its own size: a student's is not its teacher's."""
    facts = reference.facts
    side, theirs_side = encoder.manifest.encoder.image_size, facts.image_size
    resize = get_profile(encoder.manifest.profile).resize

    def pixels(images: Sequence[Pixels], size: int) -> NDArray[np.float32]:
        return np.stack([encoder.normalise(resize(image, size)) for image in images])

    ours: list[Array] = []
    theirs: list[Array] = []
    step = at_once(facts)
    for start in range(0, len(samples), step):
        part = samples.images[start : start + step]
        small = pixels(part, side)
        theirs.append(reference.image_embeddings(small if theirs_side == side else pixels(part, theirs_side)))
        compute = partial(encoder.embed_pixels, small)
        ours.append(course.outputs.rows(course.side, list(map(image_key, small)), compute))
        for offset, both in enumerate(zip(theirs[-1], ours[-1], strict=True)):
            course.row({"side": course.side, **samples.named(start + offset), **banks.row(*both)})
        course.progress("images", min(start + step, len(samples)), len(samples))
    stage_inputs = pixels([samples.images[index] for index in spread(len(samples), STAGE_SAMPLES)], side)
    return TowerRun(np.concatenate(theirs), np.concatenate(ours), stage_inputs)


def run_text(encoder: Encoder, reference: Reference, texts: Sequence[str], course: Course = NOT_FOLLOWED) -> TowerRun:
    theirs = reference.embed_texts(texts)
    ours = course.outputs.rows(course.side, list(map(text_key, texts)), lambda: encoder.embed_texts(texts))
    course.progress("texts", len(texts), len(texts))
    return TowerRun(theirs, ours, reference.text_ids(texts))


def compare_embeddings(reference: Array, bundle: Array) -> EmbeddingFigures:
    centred = metrics.centred_cosine(reference, bundle)
    return EmbeddingFigures(
        max_error=float(np.abs(reference - bundle).max()),
        cosine=spread_of(metrics.cosine(reference, bundle)),
        # One input has no mean to take away: its centred reference is zero.
        centred_cosine=spread_of(centred) if len(reference) > 1 else None,
        recall_overlap=metrics.recall_overlap(reference, bundle),
        count=len(reference),
        intervals=cosine_intervals(centred, np.arange(len(centred))) if len(reference) > 1 else {},
    )


def compare_texts(
    encoder: Encoder, texts: Sequence[str], run: TowerRun, project: Callable[[Array], Array]
) -> EmbeddingFigures:
    """Embeddings of texts, the reference's `project`ed to the bundle's space, and the tokenizer's ids."""
    same = bool((encoder.tokenizer.encode(texts)[0] == run.stage_inputs).all())
    return replace(compare_embeddings(project(run.reference), run.bundle), ids_equal=same)


def spread_of(values: Array) -> Spread:
    return Spread(float(values.mean()), float(values.min()), float(np.quantile(values, 0.01)))


def cosine_intervals(centred: Array, groups: Array) -> dict[str, Interval]:
    """Intervals of the mean and the low percentile of centred cosines, (N,), by resampled groups (tokens come from images)."""
    statistics: dict[str, Callable[[Array], float]] = {
        "centred_cosine.mean": lambda rows: float(centred[rows].mean()),
        "centred_cosine.p01": lambda rows: float(np.quantile(centred[rows], 0.01)),
    }
    everything = np.arange(len(centred))
    return {name: Interval(value(everything), *metrics.grouped(value, groups)) for name, value in statistics.items()}


def _sizes(encoder: Encoder) -> TowerSizes:
    model = encoder.manifest.encoder
    weights = sum(encoder.bundle.tower_bytes(tower) for tower in encoder.towers.values())
    return TowerSizes(weights, weights / (4 * model.parameters) if "text" in encoder.towers else None)


def _speed(encoder: Encoder, reference: EncoderReference, pixels: Array) -> SpeedFigures:
    """Runs on one image in turns, until their ratio is sure or enough time is spent; `medge bench` takes more."""
    return speed_in_turns(lambda: reference.images(pixels), lambda: encoder.embed_pixels(pixels))


def speed_in_turns(
    theirs: Callable[[], object], ours: Callable[[], object], before: Callable[[], object] = lambda: None
) -> SpeedFigures:
    """How long PyTorch and the bundle take, and their ratio where it can be said; `before` comes before each turn, untimed."""
    took: tuple[list[Took], list[Took]] = ([], [])
    begun, ratio = time.monotonic(), None
    while not took[0] or (ratio is None and len(took[0]) < MOST_TURNS and time.monotonic() - begun < SPEED_SECONDS):
        before()
        for runs, call in zip(took, (theirs, ours), strict=True):
            runs.append(timed(call))
        ratio = time_ratio(took[1], took[0])
    pytorch, bundle = (statistics.median(run.wall for run in runs) for runs in took)
    if ratio is None:
        return SpeedFigures(pytorch, bundle, None)
    return SpeedFigures(pytorch, bundle, ratio.value, ratio.low, ratio.high)


def machine(target: str) -> dict[str, str]:
    import torch

    return {"target": target, "architecture": platform.machine(), "torch": torch.__version__,
            "python": platform.python_version()}  # fmt: skip
