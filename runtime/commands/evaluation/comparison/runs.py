"""Finished runs of `medge evaluate`, read again from their folders, and their items joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ....bundles.typed_json import parse
from ....console.layouts import Row, read_table
from ....console.terminal import SCHEMA_VERSION
from ....errors import StorageError, TaskError, one_line
from ....evaluation.compare import (
    compare_findings,
    compare_judged,
    compare_letters,
    compare_records,
    compare_reports,
    compare_short_answers,
)
from ....evaluation.readings.table import READINGS
from ....evaluation.rows import TRUE, judged_of
from ....evaluation.task import ASK, Form, QuestionForm, headline_of
from ..written import METRICS, items_file, readings_file

# What two runs must have been asked alike, and how a user knows it. Other fields of a task are prose about it.
_ASKED = {
    "name": "task", "form": "form of the task", "method": "--method", "labels": "labels", "prompts": "prompts",
    "prompt": "prompt", "limit": "limit of tokens", "split": "split",
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What `metrics.json` says of a bundle.

    Attributes:
        parity: its verdict.
        recipes: {tower: recipe}.
        bytes: of its towers' files.
        peak_bytes: the most memory that its process took; None of runs that did not record it.
    """

    parity: str
    recipes: dict[str, str]
    bytes: int
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Evaluated:
    """How many items have a row."""

    evaluated: int


@dataclass(frozen=True)
class Task:
    """What `metrics.json` says of a task; who reads it elsewhere finds more."""

    name: str
    form: Form | QuestionForm
    method: str
    labels: list[str] = field(default_factory=list)
    title: str = ""
    source: str = ""
    protocol: str = ""
    prompts: Any = None
    prompt: str | None = None
    limit: int | None = None
    split: str | None = None

    @property
    def headline(self) -> str:
        """The figure by which it is known."""
        return headline_of(self.form, self.method)


@dataclass(frozen=True)
class ReaderFacts:
    """What `metrics.json` says of a model that has read the reports; who reads it elsewhere finds more.

    Attributes:
        made_with: of which files it is.
    """

    made_with: str


@dataclass(frozen=True)
class Figure:
    """A figure with its 95% interval."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Metrics:
    """What of `metrics.json` a comparison needs; its fields stand in docs/reference/json.md."""

    schema_version: int
    bundle: str
    model: Model
    task: Task
    limit: int | None
    seed: int
    no_names: bool
    items: Evaluated
    figures: dict[str, Figure] = field(default_factory=dict)
    seconds_an_item: float | None = None
    readers: dict[str, ReaderFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        place: its folder.
        metrics: what its `metrics.json` says.
        rows: {id: row} of its file of items, with what was found in reports.
    """

    place: Path
    metrics: Metrics
    rows: Mapping[str, Row]


def read_run(place: Path) -> Run:
    """The run that lies in a folder.

    Raises:
        StorageError: there is none, or it is not finished.
        TaskError: no item could be evaluated.
        MissingExtraError: its items are Parquet, and pyarrow is not installed.
    """
    file = place / METRICS
    try:
        metrics = msgspec.convert(parse(file.read_bytes()), type=Metrics)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StorageError(f"{file} is not there; 'medge evaluate' writes it at the end of a run") from error
    except (ValueError, msgspec.ValidationError) as error:
        raise StorageError(f"{file}: 'medge evaluate' has not written it ({one_line(error)})") from error
    if metrics.schema_version != SCHEMA_VERSION:
        raise StorageError(
            f"{file}: its schema_version is {metrics.schema_version}, not {SCHEMA_VERSION}; evaluate the bundle again"
        )
    if metrics.task.headline not in metrics.figures:
        raise TaskError(f"{file} has no figures: no item could be evaluated")
    items = items_file(place, None)
    rows = {str(row.get("id")): row for row in read_table(items)}
    if len(rows) != metrics.items.evaluated:
        raise StorageError(
            f"{items} has {len(rows)} items, and {file} is of {metrics.items.evaluated}: run 'medge evaluate' to its end, "
            "or again into another folder"
        )
    for name in metrics.readers:
        file = readings_file(items, name)
        found = {str(row.get("id")): row for row in read_table(file)}
        if not rows.keys() <= found.keys():
            raise StorageError(f"{file} lacks reports that {items} has: run 'medge evaluate' with --{name} again")
        rows = {key: {**found[key], **row} for key, row in rows.items()}
    return Run(place, metrics, rows)


def check_same_question(first: Run, other: Run) -> None:
    """Refuse runs that were asked different things.

    Raises:
        TaskError: they were; it says which.
    """
    one, two = first.metrics, other.metrics
    differ = [word for name, word in _ASKED.items() if getattr(one.task, name) != getattr(two.task, name)]
    drawn = ("limit", "seed", "no_names")
    both = one.readers.keys() & two.readers.keys()
    differ += [f"the files of --{name}" for name in sorted(both) if one.readers[name] != two.readers[name]]
    differ += [f"--{name.replace('_', '-')}" for name in drawn if getattr(one, name) != getattr(two, name)]
    if differ:
        raise TaskError(
            f"{first.place} and {other.place} can't be compared: they differ in {', '.join(differ)}; evaluate both alike"
        )


def compared_with(first: Run, other: Run) -> dict[str, Any]:
    """The difference of a run to the first one, for JSON, over the items that are in both.

    Raises:
        TaskError: they were asked different things, none or not the same is known of their items.
        StorageError: a cell of a file of items holds no number.
    """
    check_same_question(first, other)
    keys = [key for key in first.rows if key in other.rows]
    if not keys:
        raise TaskError(f"{first.place} and {other.place} can't be compared: no item is in both")
    rows = [[run.rows[key] for key in keys] for run in (first, other)]
    counts = {
        "in_both": len(keys), "only_in_first": len(first.rows) - len(keys), "only_in_this": len(other.rows) - len(keys)
    }  # fmt: skip
    try:
        if changed := sum(_known_of(one) != _known_of(two) for one, two in zip(*rows, strict=True)):
            raise TaskError(
                f"{first.place} and {other.place} can't be compared: {changed} of their items have other labels or groups, so "
                "the data were changed between them; evaluate both again"
            )
        readers = [name for name in first.metrics.readers if name in other.metrics.readers]
        return {"items": counts, **_compared(first.metrics, rows[0], rows[1], readers)}
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError(f"the items of {first.place} or {other.place} are damaged ({one_line(error)})") from error


def _known_of(row: Row) -> list[Any]:
    """What is known of an item, whatever a model says of it; a csv holds texts where Parquet holds numbers."""
    texts = [str(row.get(name) or "") for name in ("label", "group", "image")]
    return [
        *texts,
        *((name, float(row[name])) for name in sorted(row) if name.startswith(TRUE) and row[name] not in (None, "")),
    ]


def _compared(
    metrics: Metrics, first: Sequence[Row], other: Sequence[Row], readers: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    match metrics.task.form:
        case "multiple choice":
            return compare_letters(first, other)
        case "image questions":
            return compare_short_answers(first, other)
        case "record questions":
            return compare_records(first, other)
        case "reports":
            return compare_reports(first, other, [READINGS[name] for name in readers])
        case "findings" if metrics.task.method == ASK:
            return compare_findings(first, other, metrics.task.labels)
        case form:
            judged = [
                judged_of(rows, metrics.task.labels, one=form == "one label", ordinal="kappa" in metrics.figures)
                for rows in (first, other)
            ]
            return compare_judged(judged[0], judged[1])
