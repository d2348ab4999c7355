"""Answers of a word or a few, against the right ones: token F1, and accuracy where few answers are possible."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..figures import LEAST
from .means import mean_of


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


def yes_or_no(text: str) -> str:
    """Of "yes" and "no" the first that is said; "" where neither is."""
    return next((word for word in words(text) if word in ("yes", "no")), "")


def agrees(said: str, right: str) -> bool:
    """Whether a closed question is answered rightly: the same words; of yes and no, the first of them that is said."""
    truth = words(right)
    return yes_or_no(said) == truth[0] if truth in (["yes"], ["no"]) else words(said) == truth


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
    found = {"token_f1": mean_of(rows, "f1", "image")}
    closed = [row for row in rows if row.get("right") not in (None, "")]
    return found | ({"closed_accuracy": mean_of(closed, "right", "image", proportion=True)} if closed else {})
