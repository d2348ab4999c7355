"""What a user gives `medge evaluate`, and what comes of it, whatever it evaluates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...console.layouts import Row


@dataclass(frozen=True)
class Given:
    """What is asked of images and of questions alike.

    Attributes:
        data: where the data lie.
        place: the folder to write.
        form: of the file of items: "parquet", "csv", "jsonl", or None.
        limit: how many items, of images on each side; all where None.
        seed: of what is drawn.
        no_names: whether names are hashed.
        force: begin anew.
        counts_memory: whether the most memory that the process has taken is this run's.
    """

    data: Path
    place: Path
    form: str | None
    limit: int | None
    seed: int
    no_names: bool
    force: bool
    counts_memory: bool


@dataclass(frozen=True)
class Finished:
    """A run that is done, and written.

    Attributes:
        place: its folder.
        facts: what its `metrics.json` holds.
        many: what `--json` says of its images beside them: which could not be read.
        tell: prints its figures.
        end: tells the totals; raises `typer.Exit` where an image could not be read.
        rows: of its file of items, those that it is of.
        questions: {id: what was asked}, of a language model.
    """

    place: Path
    facts: dict[str, Any]
    many: dict[str, Any]
    tell: Callable[[], None]
    end: Callable[[], None]
    rows: Sequence[Row] = ()
    questions: Mapping[str, str] = field(default_factory=dict)
