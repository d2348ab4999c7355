"""What a distillation came to: facts for machines, and one self-contained page with its curves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ...runtime.bundles.origin import Origin
from ...runtime.bundles.typed_json import build, parse
from ...runtime.pages.drawing import BUNDLE, FOURTH, REFERENCE, SOFT, THIRD, Figure, legend_below, new_axes, svg
from ...runtime.pages.templates import Head
from ...runtime.pages.words import number
from .templates import origin_facts, pages
from .verdict import Verdict

_COLOURS = (BUNDLE, REFERENCE, THIRD, FOURTH, SOFT)
MEANINGS = {
    "regression": "Distance of the student's image embeddings from the teacher's; 0 is equal.",
    "centred_cosine": "Likeness of the student's and the teacher's image embeddings; 1 is equal.",
    "text_regression": "Distance of the student's text embeddings from the teacher's; 0 is equal.",
    "divergence_before": "Mean KL divergence of the next token's probabilities from the teacher's, in nats, before training.",
    "divergence": "The same after training; 0 is equal.",
    "perplexity_teacher": "How surprised the teacher is by the texts; less is better.",
    "perplexity_before": "The same of the student before training.",
    "perplexity_student": "The same of the student after training.",
    "gap_recovered": "Share of the way from the untrained student to the teacher, by perplexity.",
    "log_gap_recovered": "The same by the logarithm of perplexity.",
    "same_first_choice_before": "Share of places with the teacher's likeliest token, before training.",
    "same_first_choice": "Share of places with the teacher's likeliest token, after training.",
}


@dataclass(frozen=True)
class Distillation:
    """One finished run.

    Attributes:
        made: when, by which medge, and of which teacher.
        kind: which family; "finish" of a rounded language model's last step.
        student: the shape, as it was asked for.
        teacher: name and hashes of the checkpoint.
        facts: data, shape and settings.
        figures: on what was held back from training.
        curves: {stage: rows}; a row has "step" and either the terms of the loss or held-back figures.
    """

    made: Origin
    kind: Literal["medsiglip", "medgemma", "finish"]
    student: str
    teacher: dict[str, Any]
    facts: dict[str, Any]
    figures: dict[str, float]
    curves: dict[str, list[dict[str, float]]]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Distillation:
        return build(cls, parse(text.encode()))


def render_distillation(run: Distillation) -> str:
    """The page as text; it loads nothing from anywhere."""
    plots = []
    for stage, rows in run.curves.items():
        title = f"Loss, {stage}"
        plots.append((title, svg(_terms(rows), title), "Terms of the loss as they were weighed, every tenth step."))
        if any(key.startswith("held_back_") for row in rows for key in row):
            note = "On examples that were never trained on; the tower is judged as it trains."
            title = f"Held back, {stage}"
            plots.append((title, svg(_held_back(rows), title), note))
    flat = {
        key: ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        for key, value in run.facts.items()
    }
    name = f"Distillation of {run.teacher['name']} into {run.student}"
    if run.kind == "finish":
        name = f"A finish of {run.student} by {run.teacher['name']}"
    examples = ", ".join(
        f"{flat[key]} {key.replace('_', ' ')}" for key in ("images", "texts", "examples") if key in flat
    )
    head = Head(name, [*origin_facts(run.made), ("trained on", examples)])
    template = pages().get_template("distillation.html.jinja")
    return template.render(
        run=run, facts=flat, plots=plots, head=head, verdict=distillation_verdict(run), meanings=MEANINGS
    )


def distillation_verdict(run: Distillation) -> Verdict:
    """Of a training run: it has no gates, so it says what is still to be measured."""
    teacher = run.teacher["name"]
    if run.kind == "finish":
        return _finish_verdict(run)
    changed = "; ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in run.figures.items())
    users = {
        "medsiglip": "Who classifies or searches images with the student",
        "medgemma": "Who reads the student's answers",
    }
    return Verdict(
        "trained", "neutral", "The student is not yet held against its teacher: training alone passes no gate.",
        f"The student {run.student} with its teacher {teacher}, on examples that it was not trained on.",
        f"On these examples: {changed}.",
        (f"{users[run.kind]}: it is another, smaller model, and its answers can differ from the teacher's.",),
        (f"Export the student with medge export {run.kind}.",
         f"Measure the bundle on your own data with medge parity; --reference {teacher} holds an encoder against its teacher.",
         "If it is not good enough, train longer, on more data, or choose a larger student."),
    )  # fmt: skip


def _finish_verdict(run: Distillation) -> Verdict:
    """Of a finish, whose bundle has a parity report of its own."""
    before, after = run.figures["divergence_before"], run.figures["divergence"]
    return Verdict(
        "trained", "neutral", "The file is nearer to its checkpoint than it was; whether it is near enough, parity.html says.",
        f"The file {run.student} with the checkpoint {run.teacher['name']} that it was made from, on examples that it was not "
        "trained on.",
        f"On these examples: KL divergence {number(before)} before, {number(after)} after.",
        ("Who reads the model's answers: they can differ from those before, and from the checkpoint's.",),
        ("Read the bundle's own parity.html, which is measured on other texts.",
         "If it is not good enough, train longer or on more data, or choose a recipe of more bits."),
    )  # fmt: skip


def _terms(rows: list[dict[str, float]]) -> Figure:
    trained = [row for row in rows if "loss" in row]
    names = [name for name in trained[0] if name not in ("step", "rate", "loss")]
    return _lines(trained, [*names, "loss"] if len(names) > 1 else ["loss"])


def _held_back(rows: list[dict[str, float]]) -> Figure:
    judged = [row for row in rows if any(key.startswith("held_back_") for key in row)]
    return _lines(judged, [key for key in judged[0] if key.startswith("held_back_")], marker="o")


def _lines(rows: list[dict[str, float]], names: list[str], marker: str = "") -> Figure:
    figure, axes = new_axes()
    for name, colour in zip(names, _COLOURS, strict=False):
        points = [(row["step"], row[name]) for row in rows if name in row]
        label = name.removeprefix("held_back_").replace("_", " ")
        axes.plot(*zip(*points, strict=True), marker=marker, markersize=4, color=colour, label=label)
    if all(row[name] > 0 for row in rows for name in names if name in row):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    legend_below(figure)
    return figure
