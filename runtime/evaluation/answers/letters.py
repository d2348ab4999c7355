"""Multiple choice: what is asked, which letter an answer means, and the figures of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundles.metrics import wilson
from ..figures import LEAST
from ..items import LETTERS, Question

# A letter in brackets, or one that nothing but an end or a mark follows: "a drug" and "A drug" name no option.
_FINAL = re.compile(
    r"final\s+answer\W*?(?:is\W*?)?(?:\(([A-J])\)|([A-J])(?=\s*(?:[).:,*–-]|$)))", re.IGNORECASE | re.MULTILINE
)


def prompt_of(template: str, question: Question) -> str:
    """A question as it is put, with its options by letter, a line each."""
    options = "\n".join(f"({letter}) {text}" for letter, text in zip(LETTERS, question.options, strict=False))
    # One after the other: a question may hold what looks like a mark.
    before, after = template.split("{question}")
    return before.replace("{options}", options) + question.text + after.replace("{options}", options)


def letter_of(answer: str, options: int) -> str:
    """The letter that an answer ends with, "Final Answer: (X)"; "" where it names none of the options.

    Of several, the last counts: a model that thinks aloud names others before it. An answer that is a letter and nothing else
    counts, too.

    Args:
        answer: the model's.
        options: how many there are.
    """
    found = [one or other for one, other in _FINAL.findall(answer)] or re.findall(r"^\W*([A-Ja-j])\W*$", answer)
    letter = found[-1].upper() if found else ""
    return letter if letter and letter in LETTERS[:options] else ""


def likelihoods(logits: NDArray[np.float32], tokens: Sequence[int]) -> list[float]:
    """Log-probabilities of some tokens as the next one.

    Args:
        logits: (vocabulary,) float32.
        tokens: their numbers.
    """
    row = logits.astype(np.float64)
    row -= np.logaddexp.reduce(row)
    return [float(row[token]) for token in tokens]


def figures_of_answers(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracy with Wilson's interval, in all and by subject; a question without an answer that can be read is wrong.

    Args:
        rows: of the file of items, at least one.
    """
    right = [row["answer"] == row["label"] for row in rows]
    subjects: dict[str, list[bool]] = {}
    for row, one in zip(rows, right, strict=True):
        if row.get("subject"):
            subjects.setdefault(str(row["subject"]), []).append(one)
    read = [bool(row["answer"]) for row in rows]
    told = {
        name: {"count": len(ones), "figures": {"accuracy": _share(ones)}}
        for name, ones in sorted(subjects.items()) if len(ones) >= LEAST
    }  # fmt: skip
    return {
        "figures": {"accuracy": _share(right), "answered": _share(read)},
        "subgroups": {"subject": told} if told else {},
    }


def _share(hits: Sequence[bool]) -> dict[str, float]:
    low, high = wilson(sum(hits), len(hits))
    return {"value": sum(hits) / len(hits), "low": low, "high": high}
