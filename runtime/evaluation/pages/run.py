"""The page of one run: what `metrics.json` says and what the file of items shows, as one self-contained HTML page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...pages.templates import Head, templates_of
from ..figures import BY_LABEL, LEAST, Judged
from ..rows import Row, about_of, judged_of
from .answers import Example, examples, outcomes
from .curves import commonest_mistakes, confusions
from .opening import asked_of, facts_of, intervals_of, lead_of, left_out, things
from .run_plots import Plot, reliability_plot, roc_plots, shares_plot, subgroup_plot
from .words import MEANINGS, figure_text

MOST_CURVES = 15  # labels with a ROC curve of their own
WIDEST = 12  # labels of a confusion matrix that a page still shows as one
FEW_PROMPTS = 3  # of a label

Matrix = tuple[Sequence[str], list[list[int]]]  # labels, and how many of each (row) got which answer (column)
Mistakes = Sequence[tuple[str, str, int]]  # true label, answer, how many


@dataclass(frozen=True)
class Shown:
    """What the file of items adds to the figures of `metrics.json`.

    Attributes:
        rocs: [(label, drawing)].
        plots: the others.
        matrix: of images with one label each; None where it would be too wide.
        mistakes: the commonest, where there is no matrix.
        outcomes: [(what became of answers, how many)].
        examples: wrong answers.
        wrong: how many there are.
        small: {property: {value: how many}}, of subgroups that are too small for figures.
    """

    rocs: Sequence[tuple[str, Any]] = ()
    plots: Sequence[Plot] = ()
    matrix: Matrix | None = None
    mistakes: Mistakes = ()
    outcomes: Sequence[tuple[str, int]] = ()
    examples: Sequence[Example] = ()
    wrong: int = 0
    small: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def render_run(facts: Mapping[str, Any], rows: Sequence[Row], headline: str, questions: Mapping[str, str]) -> str:
    """The page as text; it loads nothing from anywhere, and holds no picture.

    Args:
        facts: what `metrics.json` holds.
        rows: of the file of items.
        headline: the name of the task's main figure.
        questions: {id: what was asked}, of a language model; an id that is missing is shown without.
    """
    grouped = _subgroups(facts, headline)
    shown = _of_images(facts, rows) if "labels" in facts else _of_questions(rows, questions)
    plots = list(shown.plots)
    if shares := shares_plot(facts.get("shares", {}), headline):
        plots.insert(0, shares)
    overall = facts.get("figures", {}).get(headline)
    if overall and (drawn := subgroup_plot([figure for *_, figure, _ in grouped], headline, overall)):
        plots.append(drawn)
    task = facts["task"]
    return (
        templates_of("medge.runtime.evaluation.pages").get_template("run.html.jinja").render(
            head=Head(f"{facts['bundle']}: {task['title']}", facts_of(facts)), facts=facts, task=task, shown=shown,
            plots=plots, subgroups=grouped, headline=headline, lead=lead_of(facts, headline), asked=asked_of(facts),
            left_out=left_out(facts), intervals=intervals_of(facts), thing=things(facts), meanings=MEANINGS,
            figure_text=figure_text, least=LEAST, most_curves=MOST_CURVES, few_prompts=FEW_PROMPTS,
            second=_second(facts, headline), prompts=_prompts(task.get("prompts") or {}),
            by_label=[name for name in BY_LABEL if all(name in one for one in facts.get("labels", {}).values())],
        )
    )  # fmt: skip


def _of_images(facts: Mapping[str, Any], rows: Sequence[Row]) -> Shown:
    if not rows:
        return Shown()
    task = facts["task"]
    judged = judged_of(rows, task["labels"], one=task["form"] == "one label", ordinal=False)
    small = _small(about_of(rows))
    if np.isnan(judged.scores).any():  # a language model says yes or no, and no probability
        return Shown(small=small)
    matrix, mistakes = _confused(judged) if judged.one else (None, ())
    return Shown(roc_plots(judged, MOST_CURVES), [reliability_plot(judged)], matrix, mistakes, small=small)


def _prompts(prompts: Mapping[str, Any]) -> list[tuple[str, list[str], list[str]]]:
    """[(label, prompts that it holds, prompts that it does not)]; a language model has one question a label."""
    if "there" not in prompts:
        return [(label, [text], []) for label, text in prompts.items()]
    return [(label, texts, prompts["gone"].get(label, [])) for label, texts in prompts["there"].items()]


def _confused(judged: Judged) -> tuple[Matrix | None, Mistakes]:
    counts = confusions(judged)
    if len(judged.labels) <= WIDEST:
        return (judged.labels, counts), ()
    return None, commonest_mistakes(judged.labels, counts, WIDEST)


def _of_questions(rows: Sequence[Row], questions: Mapping[str, str]) -> Shown:
    if not rows or "label" not in rows[0]:
        return Shown()
    shown, wrong = examples(rows, questions)
    small = _small({"subject": [str(row.get("subject") or "") for row in rows]})
    return Shown(outcomes=outcomes(rows), examples=shown, wrong=wrong, small=small)


def _small(about: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """{property: {value: how many}} of the values that too few items have."""
    found = {}
    for name, values in about.items():
        counts = {value: count for value, count in sorted(Counter(values).items()) if value and count < LEAST}
        if counts:
            found[name] = counts
    return found


def _second(facts: Mapping[str, Any], headline: str) -> str | None:
    """A further figure of subgroups: the first that is not the main one; None where there is none."""
    found = facts.get("figures", {}).keys() - {headline}
    return next((name for name in ("accuracy", "closed_accuracy", "macro_f1") if name in found), None)


def _subgroups(facts: Mapping[str, Any], headline: str) -> list[tuple[str, str, int, Any, Any]]:
    """[(property, value, how many, main figure, second figure)]."""
    nothing = {"value": None, "low": None, "high": None}
    second = _second(facts, headline)
    return [
        (name, value, found["count"], found["figures"].get(headline, nothing), found["figures"].get(second, nothing))
        for name, values in facts.get("subgroups", {}).items() for value, found in values.items()
    ]  # fmt: skip
