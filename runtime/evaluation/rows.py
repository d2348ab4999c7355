"""Rows of a run's file of items: written as items are done, and read again as what the figures are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundles.metrics import group_numbers
from ..errors import TaskError
from .figures import Judged
from .items import Found, Item

Row = dict[str, Any]
SCORE, TRUE, ABOUT = "score ", "true ", "about "


def labels_of(items: Sequence[Item], known: Sequence[str]) -> list[str]:
    """The labels of a run: the task's, or those that the data have."""
    return list(known) or sorted({label for item in items for label in item.truth})


def texts_of(items: Sequence[Item]) -> list[str]:
    """The columns of texts: the true label, the answer, the group, and what is known about an item."""
    return [
        "label",
        "answer",
        "group",
        *(f"{ABOUT}{name}" for name in sorted({n for item in items for n in item.about})),
    ]


def numbers_of(labels: Sequence[str]) -> list[str]:
    """The columns of numbers: each label's score and truth, and the seconds that an item took."""
    return [*(f"{SCORE}{label}" for label in labels), *(f"{TRUE}{label}" for label in labels), "seconds"]


def row_of(
    item: Item, labels: Sequence[str], scores: NDArray[np.float32], seconds: float, *, one: bool
) -> Row:  # fmt: skip
    """What the file of items holds of an item, beside its name.

    Args:
        item: the item.
        labels: L of them.
        scores: (L,), a probability for each.
        seconds: that it took.
        one: whether it has exactly one label.
    """
    answers = [labels[int(scores.argmax())]] if one else [n for n, s in zip(labels, scores, strict=True) if s >= 0.5]
    truth = {label: item.truth.get(label, False if one else None) for label in labels}
    return {
        "label": "|".join(label for label, holds in truth.items() if holds), "answer": "|".join(answers),
        "group": item.group, **{f"{ABOUT}{name}": value for name, value in item.about.items()},
        **{f"{SCORE}{label}": round(float(score), 6) for label, score in zip(labels, scores, strict=True)},
        **{f"{TRUE}{label}": None if holds is None else int(holds) for label, holds in truth.items()},
        "seconds": round(seconds, 4),
    }  # fmt: skip


def judged_of(rows: Sequence[Row], labels: Sequence[str], *, one: bool, ordinal: bool) -> Judged:
    """Rows as they were read again, as what figures are made of.

    Args:
        rows: at least one.
        labels: of the run.
        one: whether each item has exactly one label.
        ordinal: whether the labels are grades.
    """
    groups = group_numbers([str(row.get("group") or "") for row in rows])
    columns = [[_number(row.get(f"{kind}{label}")) for label in labels] for kind in (SCORE, TRUE) for row in rows]
    table = np.array(columns, np.float64).reshape(2, len(rows), len(labels))
    return Judged(tuple(labels), table[0], table[1], groups, one, ordinal)


def about_of(rows: Sequence[Row]) -> dict[str, list[str]]:
    """{property: the rows' values}, "" where it is not known."""
    names = sorted({name for row in rows for name in row if name.startswith(ABOUT)})
    return {name.removeprefix(ABOUT): [str(row.get(name) or "") for row in rows] for name in names}


def _number(cell: Any) -> float:
    return math.nan if cell in (None, "") else float(cell)


def check_found(found: Found, task: str, folder: object) -> None:
    """Refuse a folder that holds nothing to evaluate.

    Raises:
        TaskError: there is no item on the test side.
    """
    if any(item.part == "test" for item in found.items):
        return
    if found.absent:
        raise TaskError(f"{folder}: none of the {found.absent} images that the table of '{task}' names is in there")
    raise TaskError(f"{folder}: no row of its tables has a label of the task '{task}' on the test side")


def counts_of(found: Found, chosen: Sequence[Item], rows: Sequence[Mapping[str, Any]], groups: str) -> dict[str, Any]:
    """How many items there are, were left out, and were evaluated, for JSON.

    Args:
        found: what the folder holds.
        chosen: those that were to be evaluated.
        rows: those that were.
        groups: what items of one group share.
    """
    named = {str(row["group"]) for row in rows if row.get("group")}
    return {
        "evaluated": len(rows), "unreadable": len(chosen) - len(rows), "on_the_test_side": _side(found, "test"),
        "on_the_training_side": _side(found, "train"), "images_absent": found.absent,
        "labels_unlisted": dict(found.unlisted), "groups": {"of": groups, "count": len(named)} if named else None,
    }  # fmt: skip


def _side(found: Found, part: str) -> int:
    return sum(item.part == part for item in found.items)
