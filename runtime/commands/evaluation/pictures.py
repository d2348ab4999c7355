"""Evaluate an encoder on a task: items are scored one by one, then the figures are made of what was written."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .... import __version__
from ...bundles.atomic import replace_text
from ...bundles.manifest import MANIFEST, sha256_file, sha256_json
from ...console.image_run import ImageRun, Input, Outcome
from ...console.layouts import TABLES, Columns, read_rows
from ...console.terminal import SCHEMA_VERSION, cuts_told, of_many, out, print_json, warn
from ...encoder.encoder import Encoder
from ...evaluation.figures import figures_of, subgroups_of
from ...evaluation.items import Found, Item, drawn, without_names
from ...evaluation.rows import (
    about_of,
    check_found,
    counts_of,
    judged_of,
    labels_of,
    numbers_of,
    row_of,
    texts_of,
)
from ...evaluation.task import Named
from ...evaluation.zero_shot import ZeroShot, prompts_of

if TYPE_CHECKING:
    from rich.table import Table

    from ...pictures.view import View

METRICS = "metrics.json"


@dataclass(frozen=True)
class Asked:
    """What a user asked for.

    Attributes:
        named: the task.
        data: where its data lie.
        place: the folder to write.
        form: of the file of items: "parquet", "csv", "jsonl", or None.
        own: {label: prompts} in the place of the task's, or None.
        own_file: where they come from.
        limit: how many items; all where None.
        seed: of the draw.
        no_names: whether names are hashed.
        force: begin anew.
    """

    named: Named
    data: Path
    place: Path
    form: str | None
    own: dict[str, list[str]] | None
    own_file: str
    limit: int | None
    seed: int
    no_names: bool
    force: bool


def evaluate_pictures(encoder: Encoder, asked: Asked, view: View, *, as_json: bool) -> None:
    """Evaluate an encoder, write items and metrics, and tell them.

    Raises:
        TaskError: the folder does not hold the task's data.
        StorageError: the folder of results holds those of another question.
        typer.Exit: an image could not be read, or after Ctrl-C.
    """
    task, name = asked.named.task, asked.named.name
    found = asked.named.layout.read(asked.data, name, task.values)
    check_found(found, name, asked.data)
    chosen = drawn([item for item in found.items if item.part == "test"], asked.limit, asked.seed)
    labels = labels_of(found.items, list(task.labels))
    if asked.no_names:
        chosen = without_names(chosen)
    _tell_what_is_left_out(found)
    there, gone = prompts_of(task, labels, asked.own)
    texts = [text for side in (there, gone) for group in side.values() for text in group]
    with cuts_told(encoder, texts):
        score = ZeroShot(encoder, there, gone)
    file = items_file(asked.place, asked.form)
    columns = _columns(encoder, asked, score, chosen, labels)
    run = ImageRun([_input(item) for item in chosen], view, file, TABLES, force=asked.force)
    run.go(encoder, columns, _measure(score, chosen, labels, one=task.form == "one label"))
    keys = {item.key for item in chosen}  # a file may hold more: rows of a run with a higher limit
    rows = [row for row in read_rows(file, columns) if row["id"] in keys]
    facts = _facts(encoder, asked, found, chosen, labels, rows, score)
    text = json.dumps({"schema_version": SCHEMA_VERSION, **facts}, indent=2, ensure_ascii=False, allow_nan=False)
    replace_text(asked.place / METRICS, text + "\n")
    if as_json:
        print_json({**facts, "out": str(asked.place), **of_many(run.failed, done=len(run.results), before=run.before)})
    elif "figures" in facts:
        tell(facts, asked.place)
    run.end(None)


def items_file(place: Path, form: str | None) -> Path:
    """The file of items: of the form that was asked for, else of the one that is there, else of the best that can be written."""
    if form is not None:
        return place / f"items.{form}"
    for ending in TABLES:
        if any((place / name).exists() for name in (f"items{ending}", f".items{ending}.rows")):
            return place / f"items{ending}"
    return place / ("items.parquet" if find_spec("pyarrow") is not None else "items.csv")


def _tell_what_is_left_out(found: Found) -> None:
    if found.absent:
        warn(f"{found.absent} images that the data name are not in the folder; the others are evaluated")
    if found.unlisted:
        several = ", ".join(f"{name} ({count})" for name, count in sorted(found.unlisted.items())[:8])
        more = f" and {len(found.unlisted) - 8} more" if len(found.unlisted) > 8 else ""
        warn(f"{sum(found.unlisted.values())} images are left out, whose label the task does not know: {several}{more}")


def _input(item: Item) -> Input:
    return Input(item.key, item.key, item.open)


def _columns(encoder: Encoder, asked: Asked, score: ZeroShot, chosen: Sequence[Item], labels: Sequence[str]) -> Columns:
    """Of the file of items; two files with the same `made_with` answer the same question."""
    question = [sha256_file(encoder.bundle.folder / MANIFEST), score.prompts, asked.named.task.form]
    same = {"bundle": encoder.manifest.name, "task": asked.named.name, "made_with": sha256_json(question)[:16]}
    return Columns("id", same, tuple(texts_of(chosen)), tuple(numbers_of(labels)))


def _measure(
    score: ZeroShot, chosen: Sequence[Item], labels: Sequence[str], *, one: bool
) -> Any:  # fmt: skip
    """What becomes of an image: its scores, and the seconds since the last one."""
    by_key = {item.key: item for item in chosen}
    last = time.perf_counter()

    def measure(embedding: NDArray[np.float32], key: str) -> Outcome:
        nonlocal last
        now = time.perf_counter()
        seconds, last = now - last, now
        fields = row_of(by_key[key], labels, score(embedding), seconds, one=one)
        return Outcome({}, fields, fields["answer"] if one else "")

    return measure


def _facts(
    encoder: Encoder, asked: Asked, found: Found, chosen: Sequence[Item], labels: Sequence[str],
    rows: Sequence[dict[str, Any]], score: ZeroShot,
) -> dict[str, Any]:  # fmt: skip
    """What `metrics.json` holds: what was asked of what, the counts, and the figures, where an item could be read."""
    task = asked.named.task
    facts: dict[str, Any] = {
        "bundle": encoder.manifest.name,
        "medge_version": __version__,
        "model": {
            "fingerprint": encoder.fingerprint, "profile": encoder.manifest.profile, "parity": encoder.manifest.status,
            "recipes": {tower: facts.recipe for tower, facts in encoder.towers.items()},
            "bytes": sum(map(encoder.bundle.tower_bytes, encoder.towers.values())),
        },
        "task": {
            "name": asked.named.name, "title": task.title, "form": task.form, "source": task.source, "method": "zero-shot",
            "protocol": task.protocol, "absent": task.absent, "labels": list(labels),
            "prompts_from": f"{asked.own_file}, a file of the user's own" if asked.own_file else task.prompts_from,
            "prompts": score.prompts,
        },
        "limit": asked.limit, "seed": asked.seed, "no_names": asked.no_names,
        "items": counts_of(found, chosen, rows, task.groups),
    }  # fmt: skip
    if rows:
        judged = judged_of(rows, labels, one=task.form == "one label", ordinal=task.ordinal)
        facts["seconds_an_item"] = sum(float(row["seconds"]) for row in rows) / len(rows)
        facts |= figures_of(judged)
        facts["subgroups"] = subgroups_of(judged, about_of(rows))
    return facts


def tell(facts: dict[str, Any], place: Path) -> None:
    """Print the figures over the labels, and those of each label."""
    from rich.table import Table

    count, groups = facts["items"]["evaluated"], facts["items"]["groups"]
    over = f" of {groups['count']} {groups['of']}s" if groups else ""
    table = Table("figure", "value", "95% interval", title=f"{facts['task']['name']}: {count} images{over}")
    for name, figure in facts["figures"].items():
        table.add_row(
            name.replace("_", " ").replace("auc", "AUC").replace("f1", "F1"),
            _number(figure["value"]),
            _interval(figure),
        )
    out.print(table)
    out.print(_by_label(facts["labels"]))
    out.print(f"items and {METRICS} in {place}", soft_wrap=True)


def _by_label(labels: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table("label", "images", "AUC", "95% interval", "sensitivity", "specificity")
    for label, found in labels.items():
        table.add_row(
            label, str(found["count"]), _number(found["auc"]["value"]), _interval(found["auc"]),
            _number(found["sensitivity"]["value"]), _number(found["specificity"]["value"]),
        )  # fmt: skip
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(figure: dict[str, float | None]) -> str:
    return "-" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"
