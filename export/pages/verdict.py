"""The beginning of every page: what was compared, what changed, for whom it matters, what to do, in plain words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ...runtime.bundles.metrics import wilson
from ...runtime.bundles.parity_report import EncoderReport, GateResult, GeneratorReport, ParityReport
from ...runtime.pages.words import number, percent
from .words import figure_words

Tone = Literal["good", "warn", "bad", "neutral"]
TONES: dict[str, Tone] = {"passed": "good", "passed with a warning": "warn", "failed": "bad"}


@dataclass(frozen=True)
class Verdict:
    """What a reader needs to know first.

    Attributes:
        status: one or a few words.
        tone: its colour.
        lead: the verdict in a sentence or two.
        compared, changed, matters: what was compared, what changed, for whom it matters.
        todo: what to do, step by step.
    """

    status: str
    tone: Tone
    lead: str
    compared: str
    changed: str
    matters: tuple[str, ...]
    todo: tuple[str, ...]


def encoder_verdict(report: EncoderReport) -> Verdict:
    """Of an image-text encoder."""
    scores, figures = report.figures.scores, report.figures
    changed = (
        f"The first label changed on {_of(scores.flips, report.images)} images ({_share(scores.flips, report.images)})."
    )
    if scores.accuracy is not None:
        before, after = scores.accuracy.reference.value, scores.accuracy.bundle.value
        changed += f" Accuracy is {after:.3f}; the original's is {before:.3f}."
    matters = [
        f"Who classifies images: {percent(scores.flips)} of these images get another first label.",
        f"Who searches similar images: {percent(figures.vision.recall_overlap)} of the ten nearest images are the same.",
    ]
    losses = [
        (row.reference.sensitivity.value - row.bundle.sensitivity.value, row.label)
        for row in scores.by_label if row.reference.sensitivity and row.bundle.sensitivity
    ]  # fmt: skip
    if losses and max(losses)[0] > 0:
        loss, label = max(losses)
        matters.append(f"Who relies on “{label}”: the bundle finds {100 * loss:.1f} fewer of 100 such images.")
    texts = f" and the same {report.texts} texts" if report.texts else ""
    labels = "The images had labels." if report.labelled else "The images had no labels."
    known = {row.label for row in scores.by_label}
    if known and (unseen := [label for label in scores.labels if label not in known]):
        labels += f" Accuracy is among these labels alone: there was no image of {', '.join(unseen)}."
    return _verdict(report, f"on the same {report.images} images{texts}. {labels}", changed, matters)


def generator_verdict(report: GeneratorReport) -> Verdict:
    """Of a language model."""
    figures = report.figures
    changed = (
        f"On text, {percent(1 - figures.text.same_top)} of the places have another first choice for the next token; the mean "
        f"KL divergence is {number(figures.text.kld.mean)} nats."
    )
    if figures.image is not None:
        changed += f" With images, {percent(1 - figures.image.same_top)} have another first choice."
    if (cut := figures.vocabulary) is not None:
        changed += (
            f" The vocabulary is cut to {cut.kept:,} of {cut.of:,} tokens: all of this is said of those that stayed, with the "
            f"original's probabilities of them made to sum to one. To the others it gives {percent(cut.dropped_mass)} on "
            f"average; of the tokens that the measured texts are for it, {percent(cut.missed_share)} were dropped."
        )
    matters = ["Who reads its answers: the wording can differ from the original's at these places."]
    for name, task in figures.tasks.items():
        matters.append(
            f"Who asks questions like {name}: {_of(task.flips, task.items)} answers changed ({_share(task.flips, task.items)}); "
            f"accuracy is {task.accuracy.bundle.value:.3f}, the original's is {task.accuracy.reference.value:.3f}."
        )
    if figures.vocabulary is not None:
        matters.append(
            "Who writes in a script that was dropped: a text takes several times the tokens, and is read worse."
        )
    if not figures.tasks:
        matters.append("Who relies on right answers: no questions were asked; give some with --task.")
    images = f" and {report.images} images" if report.images else ""
    return _verdict(report, f"on the same {report.texts} texts{images}.", changed, matters)


def _verdict(report: ParityReport, on: str, changed: str, matters: list[str]) -> Verdict:
    recipes = ", ".join(f"{part} {recipe}" for part, recipe in report.recipes.items())
    compared = f"The bundle {report.bundle} ({recipes}) with {report.reference} in PyTorch at full precision, {on}"
    judged = [gate for gate in report.gates if gate.passed is not None]
    broken = [gate for gate in judged if not gate.passed]
    lead = f"{len(broken)} of {len(judged)} gates do not hold."
    if not judged:
        lead = "No gate could be measured."
    elif not broken:
        lead = f"All {len(judged)} measured gates hold: the bundle is as near to the original as its recipe promises."
    if report.status == "failed":
        lead += " Do not rely on it."
    lead += "".join(f" Warning: {warning}." for warning in report.warnings)
    tone = TONES[report.verdict]
    if not report.held_back:
        lead += " Not measured on held-back images: the bundle was calibrated on these."
        tone = "warn" if tone == "good" else tone
    return Verdict(report.verdict, tone, lead, compared, changed, tuple(matters), _todo(report, broken))


def _todo(report: ParityReport, broken: list[GateResult]) -> tuple[str, ...]:
    """A step for each kind of failed gate, then what would make the measurement say more."""
    steps = [_advice(gate, report) for gate in broken]
    if report.verdict == "passed with a warning":
        steps.append(
            "Decide whether what the warning names matters for your use. If it does, measure on more inputs of your own, or "
            "export again with a recipe of more bits."
        )
    if not report.held_back:
        steps.append("Measure on images that the bundle was not calibrated on: medge parity with --images.")
    if report.kind == "encoder" and not report.labelled:
        steps.append("To see accuracy, measure on labelled images: --images FOLDER --labelled.")
    if not steps:
        steps.append("Nothing more for these images. Measure on images or texts of your own before you rely on it.")
    return tuple(dict.fromkeys(steps))


def _advice(gate: GateResult, report: ParityReport) -> str:
    part = gate.figure.split(".")[0]
    if part in ("pixels", "tokenizer", "prompt"):
        what = "images" if part == "pixels" else "texts"
        return (
            f"The bundle prepares {what} in another way than the original. Export it again with this version of medge."
        )
    if gate.figure.endswith("_kept"):
        return "The student is too weak: train it longer, on more images, or choose a larger one."
    if gate.figure == "scores.flips" and gate.bound > 0 and gate.bound * report.images < 1:
        least = math.ceil(1 / gate.bound)
        return (
            f"With {report.images} images one changed answer breaks the gate: measure on more images, at least {least}."
        )
    if part == "scores":
        return "Measure on more images. If the gate fails again, export with another recipe that keeps more bits."
    tower = {"vision": "vision", "image": "projector", "text": "text" if report.kind == "encoder" else "language"}
    return (
        f"{figure_words(gate.figure)[0].capitalize()} is out of bounds: export with another recipe that keeps more bits for the "
        f"part “{tower.get(part, part)}” (--recipe), or calibrate on more data of your kind (--calibration)."
    )


def _share(share: float, count: int) -> str:
    """A share of changed answers with its interval, which is wide of few answers even where none changed."""
    low, high = wilson(round(share * count), count)
    return f"{percent(share)}, 95% interval {percent(low)} to {percent(high)}"


def _of(share: float, count: int) -> str:
    return f"{round(share * count)} of {count}"
