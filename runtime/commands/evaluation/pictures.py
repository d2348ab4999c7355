"""Evaluate an encoder on a task: items are scored one by one, then the figures are made of what was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...console.image_run import ImageRun, Input
from ...console.layouts import Columns
from ...console.terminal import of_many, out, warn
from ...evaluation.figures import figures_of, subgroups_of
from ...evaluation.items import Found, Item, Part, drawn, without_names
from ...evaluation.rows import (
    about_of,
    check_found,
    counts_of,
    judged_of,
    labels_of,
    numbers_of,
    texts_of,
)
from ...evaluation.shares import with_split
from ...evaluation.task import Named
from .given import Finished, Given
from .subject import Subject
from .told import figure_table, images_text, interval_text, number_text
from .written import METRICS, facts_of, same_of, write_facts

if TYPE_CHECKING:
    from rich.table import Table

    from ...pictures.view import View

Method = Literal["zero-shot", "probe"]


@dataclass(frozen=True)
class Asked(Given):
    """What a user asked for.

    Attributes:
        named: the task.
        method: how images are scored.
        own: {label: prompts} in the place of the task's, or None.
        own_file: where they come from.
    """

    named: Named
    method: Method
    own: dict[str, list[str]] | None
    own_file: str

    @property
    def one(self) -> bool:
        """Whether each item has exactly one label."""
        return self.named.task.form == "one label"


@dataclass(frozen=True)
class Material:
    """What a task gives.

    Attributes:
        found: what the folder holds.
        test, train: items of either side that were chosen.
        labels: of the run.
        texts: columns of texts in the file of items.
    """

    found: Found
    test: list[Item]
    train: list[Item]
    labels: list[str]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Scored:
    """What a method gives.

    Attributes:
        run: the way through the images.
        rows: of the file of items, those that were asked for.
        asked: what it asked, for `metrics.json`: prompts, or how probes were fitted.
        more: further figures for it.
    """

    run: ImageRun
    rows: list[dict[str, Any]]
    asked: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)


Score = Callable[[Subject, Asked, Material, "View"], Scored]


def evaluate_pictures(subject: Subject, asked: Asked, score: Score, view: View) -> Finished:
    """Evaluate an encoder, and write items and metrics.

    Args:
        subject: the encoder, opened.
        asked: what a user asked for.
        score: the method.
        view: which frame and which window of a file.

    Raises:
        TaskError: the folder does not hold the task's data.
        StorageError: the folder of results holds those of another question.
        typer.Exit: after Ctrl-C.
    """
    material = _material(asked)
    tell_what_is_left_out(material.found)
    scored = score(subject, asked, material, view)
    facts = _facts(subject, asked, material, scored)
    write_facts(asked.place / METRICS, facts)
    run = scored.run
    many = of_many(run.failed, done=len(run.results), before=run.before)
    return Finished(asked.place, facts, many, lambda: tell(facts, asked.place), lambda: run.end(None), scored.rows)


def _material(asked: Asked) -> Material:
    """What the folder holds of the task, and what of that was asked for."""
    task, name = asked.named.task, asked.named.name
    found = asked.named.layout.read(asked.data, name, task.values)
    check_found(found, name, asked.data)
    items = found.items
    if asked.method == "probe" and not found.has_split:
        items = with_split(items, asked.seed)
        found = replace(found, items=items)  # that the data have no split is still said
    sides: dict[Part, list[Item]] = {
        part: drawn([item for item in items if item.part == part], asked.limit, asked.seed)
        for part in ("test", "train")
    }
    if asked.no_names:
        sides = {part: without_names(chosen) for part, chosen in sides.items()}
    return Material(found, sides["test"], sides["train"], labels_of(items, list(task.labels)), tuple(texts_of(items)))


def columns_of(subject: Subject, asked: Asked, material: Material, question: Any) -> Columns:
    """Of the file of items."""
    same = same_of(subject.model, asked.named, asked.method, asked.named.task.form, question)
    return Columns("id", same, material.texts, tuple(numbers_of(material.labels)))


def inputs_of(items: Sequence[Item]) -> list[Input]:
    """Items as a run goes through them."""
    return [Input(item.key, item.key, item.open) for item in items]


def tell_what_is_left_out(found: Found) -> None:
    """Warn of images that are not there, and of labels that the task does not know."""
    if found.absent:
        warn(f"{found.absent} images that the data name are not in the folder; the others are evaluated")
    if found.unlisted:
        several = ", ".join(f"{name} ({count})" for name, count in sorted(found.unlisted.items())[:8])
        more = f" and {len(found.unlisted) - 8} more" if len(found.unlisted) > 8 else ""
        warn(f"{sum(found.unlisted.values())} images are left out, whose label the task does not know: {several}{more}")


def _facts(subject: Subject, asked: Asked, material: Material, scored: Scored) -> dict[str, Any]:
    """What `metrics.json` holds: what was asked of what, the counts, and the figures, where an item could be read."""
    task, rows = asked.named.task, scored.rows
    facts = facts_of(subject.model, asked, asked.named, asked.method, scored=len(scored.run.results))
    facts["model"] |= {"fingerprint": subject.encoder.fingerprint, "profile": subject.encoder.profile}
    facts["task"] |= {"labels": material.labels, **scored.asked}
    facts["items"] = counts_of(material.found, material.test, rows, task.groups)
    if rows:
        judged = judged_of(rows, material.labels, one=asked.one, ordinal=task.ordinal)
        facts |= figures_of(judged)
        facts["subgroups"] = subgroups_of(judged, about_of(rows))
    return facts | scored.more


def tell(facts: dict[str, Any], place: Path) -> None:
    """Print the figures over the labels, and those of each label."""
    out.print(figure_table(f"{facts['task']['name']}: {images_text(facts['items'])}", facts["figures"]))
    out.print(_by_label(facts["labels"]))
    out.print(f"items and {METRICS} in {place}", soft_wrap=True)


def _by_label(labels: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table("label", "images", "AUC", "95% interval", "sensitivity", "specificity")
    for label, found in labels.items():
        table.add_row(
            label, str(found["count"]), number_text(found["auc"]["value"]), interval_text(found["auc"]),
            number_text(found["sensitivity"]["value"]), number_text(found["specificity"]["value"]),
        )  # fmt: skip
    return table
