"""What `medge calibrate-scores` calibrates on: the images that a task finds, their kinds, and their embeddings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...bundles.manifest import sha256_json
from ...console.image_run import ImageRun, Input, Outcome
from ...console.layouts import EMBEDDINGS, Columns, as_numbers, read_rows
from ...decisions.labelled import Labelled
from ...encoder.encoder import Encoder
from ...encoder.labels import read_labels
from ...encoder.score_calibration import Truth, labelled
from ...errors import CalibrationError, ImageError
from ...evaluation.items import Item, drawn
from ...evaluation.rows import check_found
from ...evaluation.task import Named, read_task

if TYPE_CHECKING:
    from ...pictures.view import View


@dataclass(frozen=True)
class Gathered:
    """Images with their labels.

    Attributes:
        items: the images.
        kinds: the kind of picture of each; None where kinds are not told apart.
        one: whether each has exactly one label.
        source: what to call them.
    """

    items: Sequence[Item]
    kinds: Mapping[str, str] | None
    one: bool
    source: str

    def truth(self, item: Item) -> Truth:
        """Its label, or {label: whether it holds}."""
        return next(label for label, holds in item.truth.items() if holds) if self.one else item.truth


def gather(
    task: str, data: Path, kinds: Path | None, kind_column: str | None, limit: int | None, seed: int
) -> Gathered:  # fmt: skip
    """The images that a folder holds of a task: those of the training side, where the data have one.

    Raises:
        TaskError: there is no such task, or the folder does not hold its data.
        CalibrationError: the task has no pictures, or an image's kind is not said.
    """
    named = read_task(task)
    if not isinstance(named, Named):
        raise CalibrationError(f"the task '{named.name}' asks questions; scores are those of a task of pictures")
    found = named.layout.read(data, named.name, named.task.values)
    check_found(found, named.name, data)
    items = [item for item in found.items if not found.has_split or item.part == "train"]
    items = drawn(items, limit, seed)
    of_kind = _kinds(items, kinds, kind_column) if kinds or kind_column else None
    return Gathered(items, of_kind, named.task.form == "one label", named.task.title)


def _kinds(items: Sequence[Item], file: Path | None, column: str | None) -> Mapping[str, str]:
    """{key: kind} of all items."""
    if file is not None and column is not None:
        raise CalibrationError("give --kinds or --kind-column, not both")
    if column is not None:
        kinds = {item.key: item.about.get(column, "").strip() for item in items}
        if not any(kinds.values()):
            known = sorted({name for item in items for name in item.about}) or ["none"]
            raise CalibrationError(
                f"the task tells nothing called '{column}' of its images; it tells: {', '.join(known)}"
            )
        return {key: kind or "unknown" for key, kind in kinds.items()}
    assert file is not None
    by_label = {label: kind for kind, labels in read_labels(file).items() for label in labels}
    found = {item.key: next((by_label[name] for name, holds in item.truth.items() if holds and name in by_label), "")
             for item in items}  # fmt: skip
    lost = Counter(name for item in items if not found[item.key] for name, holds in item.truth.items() if holds)
    if lost or not all(found.values()):
        named = ", ".join(f"{name} ({count})" for name, count in sorted(lost.items())) or "images without a label"
        raise CalibrationError(f"{file} names no kind for {named}")
    return found


def embed(
    encoder: Encoder, items: Sequence[Item], keep: Path | None, view: View, *, force: bool
) -> tuple[ImageRun, dict[str, NDArray[np.float32]]]:
    """Embed images; those that can't be read are named, and left out.

    Args:
        encoder: of the bundle.
        items: the images.
        keep: a file that an interrupted command goes on with, or None.
        view: which frame and which window of a file.
        force: begin that file anew.

    Returns:
        the way through the images, and {key: embedding, (D,) float32}.

    Raises:
        ImageError: none can be read.
        typer.Exit: after Ctrl-C.
    """
    rows: dict[str, NDArray[np.float32]] = {}

    def measure(embedding: NDArray[np.float32], key: str) -> Outcome:
        rows[key] = embedding
        return Outcome({}, {"embedding": as_numbers(embedding)} if keep else {})

    run = ImageRun([Input(item.key, item.key, item.open) for item in items], view, keep, EMBEDDINGS, force=force)
    same = {"model": encoder.fingerprint, "made_with": sha256_json([encoder.fingerprint])[:16]}
    columns = Columns("id", same)
    run.go(encoder, columns, measure)
    if keep is not None:
        rows = {row["id"]: row["embedding"] for row in read_rows(keep, columns)}
    if not rows:
        raise ImageError("no image could be read")
    return run, rows


def labelled_of(encoder: Encoder, gathered: Gathered, rows: Mapping[str, NDArray[np.float32]]) -> Labelled:
    """Images with scores and truth, those that could be read.

    Raises:
        BundleError: the bundle has no labels of its own.
        CalibrationError: a label that the bundle does not have.
    """
    items = [item for item in gathered.items if item.key in rows]
    return labelled(
        encoder, np.stack([rows[item.key] for item in items]), [gathered.truth(item) for item in items],
        groups=[item.group for item in items],
        kinds=None if gathered.kinds is None else [gathered.kinds[item.key] for item in items],
    )  # fmt: skip
