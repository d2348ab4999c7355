"""Answers to multiple-choice questions, by the likelihood of the options on both sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles import metrics
from ...runtime.bundles.figures import Interval, Paired, TaskFigures
from ...runtime.generator.conversation import user
from ...runtime.generator.engine import Engine
from ...runtime.generator.generator import Generator
from ...runtime.generator.prompt import Item
from ..source.corpus import Choice
from .divergence import CachedLogits, key_of
from .kept_outputs import NOT_FOLLOWED, Course

Array = NDArray[Any]


def score_options(
    logits: Callable[[Sequence[Item], int], Array], items: list[Item], options: Sequence[Sequence[int]]
) -> list[float]:
    """Log-likelihood of each option after a prompt; options of several tokens are evaluated one by one."""
    if all(len(option) == 1 for option in options):
        row = logits(items, len(items) - 1)[-1].astype(np.float64)
        row -= np.logaddexp.reduce(row)
        return [float(row[option[0]]) for option in options]
    scores = []
    for option in options:
        rows = logits([*items, *option], len(items) - 1)[:-1].astype(np.float64)
        rows -= np.logaddexp.reduce(rows, axis=-1, keepdims=True)
        scores.append(float(rows[np.arange(len(option)), list(option)].sum()))
    return scores


def compare_task(
    generator: Generator, logits: CachedLogits, choices: Sequence[Choice], name: str, course: Course = NOT_FOLLOWED
) -> TaskFigures:
    """Accuracy of both by option log-likelihood, with paired bootstrap intervals, and how many answers changed."""
    scores: dict[str, list[list[float]]] = {"reference": [], "bundle": []}
    language = generator.bundle.path("language")
    assert language is not None
    with Engine(language, generator.bundle.path("projector"), context=4096, measuring=True) as engine:
        for number, choice in enumerate(choices):
            parts = [choice.question] if choice.image is None else [choice.image, choice.question]
            items = generator.encode([user(*parts)])
            options = [engine.tokenize(option) for option in choice.options]
            row = {"of": name, "number": number + 1, "label": choice.options[choice.answer]}
            for side, ask in (("reference", logits), ("bundle", engine.logits)):
                compute = partial(score_options, ask, items, options)
                found = course.outputs.value((side, key_of(items), options), compute)
                scores[side].append(found)
                row[f"{side}_says"] = choice.options[int(np.argmax(found))]
            course.row(row)
            course.progress(name, number + 1, len(choices))
    right = np.array([choice.answer for choice in choices])
    picked = {side: np.array([int(np.argmax(row)) for row in rows]) for side, rows in scores.items()}
    good = {side: (values == right).astype(float) for side, values in picked.items()}

    def interval(values: Array) -> Interval:
        low, high = metrics.bootstrap(lambda rows: float(values[rows].mean()), len(values))
        return Interval(float(values.mean()), low, high)

    accuracy = Paired(
        interval(good["reference"]), interval(good["bundle"]), interval(good["bundle"] - good["reference"])
    )
    flips = float((picked["reference"] != picked["bundle"]).mean())
    return TaskFigures(len(choices), flips, accuracy, majority=float(np.bincount(right).max() / len(right)))
