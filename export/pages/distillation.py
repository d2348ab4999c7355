"""What a distillation came to: facts for machines, and one self-contained page with its curves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from matplotlib.figure import Figure

from .plots import BUNDLE, REFERENCE, new_axes, pages, svg

_COLOURS = (BUNDLE, REFERENCE, "#6b8f3a", "#8a5a9c", "#777777")


@dataclass(frozen=True)
class Distillation:
    """One finished run.

    Attributes:
        kind: which family.
        student: the shape, as it was asked for.
        teacher: name and hashes of the checkpoint.
        facts: data, shape and settings.
        figures: on what was held back from training.
        curves: {stage: rows}; a row has "step" and either the terms of the loss or held-back figures.
    """

    kind: Literal["medsiglip", "medgemma"]
    student: str
    teacher: dict[str, Any]
    facts: dict[str, Any]
    figures: dict[str, float]
    curves: dict[str, list[dict[str, float]]]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Distillation:
        return cls(**json.loads(text))


def render_distillation(run: Distillation) -> str:
    """The page as text; it loads nothing from anywhere."""
    plots = []
    for stage, rows in run.curves.items():
        plots.append((f"Loss, {stage}", svg(_terms(rows)), "Terms of the loss as they were weighed, every tenth step."))
        if any(key.startswith("held_back_") for row in rows for key in row):
            note = "On examples that were never trained on; the tower is judged as it trains."
            plots.append((f"Held back, {stage}", svg(_held_back(rows)), note))
    flat = {
        key: ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        for key, value in run.facts.items()
    }
    return pages().get_template("distillation.html.jinja").render(run=run, facts=flat, plots=plots)


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
    axes.legend(frameon=False)
    return figure
