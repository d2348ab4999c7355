"""Answers of a word or a few, against the right ones: token F1, and accuracy where few answers are possible."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundles.metrics import each_alone, grouped_all, wilson
from .figures import LEAST


def words(text: str) -> list[str]:
    """The words of an answer as SQuAD's script has them (Rajpurkar et al. 2016): small letters, no punctuation, no articles."""
    plain = re.sub(r"[^\w\s]", " ", text.lower())
    return [word for word in plain.split() if word not in ("a", "an", "the")]


def token_f1(said: str, right: str) -> float:
    """F1 of the words that two answers share, of their numbers."""
    one, other = Counter(words(said)), Counter(words(right))
    shared = sum((one & other).values())
    if not one or not other:
        return float(one == other)
    return 2 * shared / (one.total() + other.total())


def agrees(said: str, right: str) -> bool:
    """Whether a closed question is answered rightly: the same words; of yes and no, the first of them that is said."""
    truth = words(right)
    if truth in (["yes"], ["no"]):
        return next((word for word in words(said) if word in ("yes", "no")), "") == truth[0]
    return words(said) == truth


def figures_of_short_answers(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Token F1 of all, and accuracy of closed questions, with bootstrap intervals over images; in all and by subject.

    Args:
        rows: of the file of items, at least one.
    """
    told: dict[str, Any] = {}
    for subject in sorted({str(row["subject"]) for row in rows if row.get("subject")}):
        chosen = [row for row in rows if str(row.get("subject")) == subject]
        if len(chosen) >= LEAST:
            told[subject] = {"count": len(chosen), "figures": _figures(chosen)}
    return {"figures": _figures(rows), "subgroups": {"subject": told} if told else {}}


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {"token_f1": _interval(rows, "f1")}
    closed = [row for row in rows if row.get("right") not in (None, "")]
    return found | ({"closed_accuracy": _interval(closed, "right")} if closed else {})


def _interval(rows: Sequence[Mapping[str, Any]], field: str) -> dict[str, float]:
    values = np.array([float(row[field]) for row in rows])
    groups = np.unique([str(row["image"]) for row in rows], return_inverse=True)[1]

    def mean(chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.array([values[chosen].mean()])

    low, high = grouped_all(mean, groups)[:, 0]
    if field == "right" and each_alone(groups):  # the bootstrap is certain where nothing was missed
        low, high = wilson(int(values.sum()), len(rows))
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}
