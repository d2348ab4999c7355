"""What a user gives `medge evaluate`, whatever it evaluates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
    """

    data: Path
    place: Path
    form: str | None
    limit: int | None
    seed: int
    no_names: bool
    force: bool
