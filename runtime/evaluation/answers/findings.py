"""Findings that a language model was asked for one by one: yes, no, or an answer that is neither."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..figures import Judged, figures_of, subgroups_of
from ..items import Item
from ..rows import ABOUT, TRUE, Row, about_of, judged_of
from .short import yes_or_no

SAID = "said "
BY_RANK = ("macro_auc", "auc")  # figures that need scores: yes and no rank nothing


def texts_of_findings(items: Sequence[Item]) -> list[str]:
    """The columns of texts, beside those of all questions."""
    return ["group", *(f"{ABOUT}{name}" for name in sorted({name for item in items for name in item.about}))]


def numbers_of_findings(labels: Sequence[str]) -> list[str]:
    """The columns of numbers: what was said of each finding, and what is true."""
    return [f"{kind}{label}" for kind in (SAID, TRUE) for label in labels]


def known_of(item: Item, labels: Sequence[str]) -> Row:
    """What a row holds of an item, whatever is answered: 1 or 0 for each finding, None where it is not known."""
    truth = {label: item.truth.get(label) for label in labels}
    return {
        "label": "|".join(label for label, holds in truth.items() if holds), "group": item.group,
        **{f"{ABOUT}{name}": value for name, value in item.about.items()},
        **{f"{TRUE}{label}": None if holds is None else int(holds) for label, holds in truth.items()},
    }  # fmt: skip


def said_of(replies: Mapping[str, str]) -> Row:
    """What a row holds of the answers: 1 of yes, 0 of no, None of an answer that is neither.

    Args:
        replies: {finding: answer}.
    """
    said = {label: {"yes": 1, "no": 0}.get(yes_or_no(text)) for label, text in replies.items()}
    return {
        "answer": "|".join(label for label, holds in said.items() if holds),
        **{f"{SAID}{label}": holds for label, holds in said.items()},
    }


def judged_of_said(rows: Sequence[Row], labels: Sequence[str]) -> Judged:
    """Rows as they were read again, as what figures are made of. An answer that is neither yes nor no is wrong.

    Args:
        rows: at least one.
        labels: the findings.
    """
    said = [[row.get(f"{SAID}{label}") for label in labels] for row in rows]
    scores = np.array([[math.nan if cell in (None, "") else float(cell) for cell in row] for row in said])
    judged = judged_of(rows, labels, one=False, ordinal=False)
    wrong = np.where(judged.truth == 1, 0.0, 1.0)
    return replace(judged, scores=np.where(np.isnan(scores), wrong, scores))


def figures_of_findings(rows: Sequence[Row], labels: Sequence[str]) -> dict[str, Any]:
    """Macro F1 over the findings, and F1, sensitivity and specificity of each, with intervals over patients; by subgroup, too.

    Args:
        rows: of the file of items, at least one.
        labels: the findings.

    Returns:
        {"figures", "labels", "subgroups"}, as of pictures, without areas under curves; a label has "unreadable", too: how many
        answers were neither yes nor no.
    """
    judged = judged_of_said(rows, labels)
    found = without_ranks(figures_of(judged))
    for label, figures in found["labels"].items():
        figures["unreadable"] = sum(row.get(f"{SAID}{label}") in (None, "") for row in rows)
    subgroups = subgroups_of(judged, about_of(rows))
    told = {
        name: {value: {**group, "figures": _without(group["figures"])} for value, group in values.items()}
        for name, values in subgroups.items()
    }
    return {**found, "subgroups": told}


def without_ranks(found: dict[str, Any]) -> dict[str, Any]:
    """Figures, or their differences, over and by label without those that need scores."""
    labels = {label: _without(figures) for label, figures in found["labels"].items()}
    return {**found, "figures": _without(found["figures"]), "labels": labels}


def _without(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name not in BY_RANK}
