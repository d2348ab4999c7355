"""Score a task's images zero-shot, a row an image."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...console.image_run import ImageRun, Outcome
from ...console.layouts import TABLES
from ...console.terminal import cuts_told, warn
from ...evaluation.items import Item
from ...evaluation.rows import row_of
from ...evaluation.zero_shot import ZeroShot, prompts_of
from .pictures import Asked, Material, Scored, columns_of, inputs_of
from .subject import Subject
from .written import items_file, rows_of, seconds_of

if TYPE_CHECKING:
    from ...pictures.view import View


def score_zero_shot(subject: Subject, asked: Asked, material: Material, view: View) -> Scored:
    """Score the test side.

    Raises:
        TaskError: a label has no prompts.
        StorageError: the file of items holds those of another question.
        typer.Exit: after Ctrl-C.
    """
    task = asked.named.task
    there, gone = prompts_of(task, material.labels, asked.own)
    if unused := [name for name in asked.own or () if name not in there]:
        warn(f"{asked.own_file}: the data have no label {', '.join(unused)}; images are scored among the others alone")
    texts = [text for side in (there, gone) for group in side.values() for text in group]
    with cuts_told(subject.encoder, texts):
        score = ZeroShot(subject.encoder, there, gone)
    file = items_file(asked.place, asked.form)
    columns = columns_of(subject, asked, material, score.prompts)
    if asked.one:
        columns = replace(columns, taken_for=lambda row: str(row.get("answer") or ""))
    run = ImageRun(inputs_of(material.test), view, file, TABLES, force=asked.force)
    run.go_through(subject.through, columns, _measure(score, material.test, material.labels, one=asked.one))
    rows = rows_of(file, columns, (item.key for item in material.test))
    source = f"{asked.own_file}, a file of the user's own" if asked.own_file else task.prompts_from
    return Scored(run, rows, {"prompts_from": source, "prompts": score.prompts}, seconds_of(rows))


def _measure(
    score: ZeroShot, items: Sequence[Item], labels: Sequence[str], *, one: bool
) -> Callable[[NDArray[np.float32], str], Outcome]:
    """What becomes of an image: its scores, and the seconds since the last one."""
    by_key = {item.key: item for item in items}
    last = time.perf_counter()

    def measure(embedding: NDArray[np.float32], key: str) -> Outcome:
        nonlocal last
        now = time.perf_counter()
        seconds, last = now - last, now
        fields = row_of(by_key[key], labels, score(embedding), seconds, one=one)
        return Outcome({}, fields)

    return measure
