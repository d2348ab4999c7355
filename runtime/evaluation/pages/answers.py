"""What became of a language model's answers: counts, and examples of wrong ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_EXAMPLES = 8
LONGEST = 1200  # characters of a question or an answer that are shown

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """A wrong answer, as texts.

    Attributes:
        name: the item's name in the file of items.
        question: what was asked; "" where that is not known.
        right: the right answer.
        answer: what was taken for the model's answer; "" where it named none.
        said: all that the model said, where that is more.
    """

    name: str
    question: str
    right: str
    answer: str
    said: str


def outcomes(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """[(what became of answers, how many)], the rows of multiple choice and of closed questions."""
    judged = [(row, right) for row in rows if (right := is_right(row)) is not None]
    wrong = [row for row, right in judged if not right]
    told = [
        ("right", len(judged) - len(wrong)),
        ("wrong", sum(bool(row.get("answer")) for row in wrong)),
        ("too long for the context", sum(row.get("stop") == "too long" for row in wrong)),
        ("cut off before it answered", sum(row.get("stop") == "limit" and not row.get("answer") for row in wrong)),
    ]
    rest = len(judged) - sum(count for _, count in told)
    return [(what, count) for what, count in (*told, ("no answer that could be read", rest)) if count]


def is_right(row: Row) -> bool | None:
    """Whether an answer is right; None of questions that have no right and wrong, only more and less alike."""
    if row.get("right") not in (None, ""):
        return float(row["right"]) == 1
    if "right" in row or len(str(row["label"])) > 1:  # an open question, or a text that is like another or not
        return None
    return str(row.get("answer")) == str(row["label"])


def examples(rows: Sequence[Row], questions: Mapping[str, str]) -> tuple[list[Example], int]:
    """The first wrong answers, in the order of the data, and how many there are.

    Args:
        rows: of the file of items.
        questions: {id: what was asked}.
    """
    wrong = [row for row in rows if is_right(row) is False or (is_right(row) is None and _shares_nothing(row))]
    return [_example(row, questions.get(str(row["id"]), "")) for row in wrong[:MOST_EXAMPLES]], len(wrong)


def _shares_nothing(row: Row) -> bool:
    return row.get("f1") not in (None, "") and float(row["f1"]) == 0


def _example(row: Row, question: str) -> Example:
    answer, said = str(row.get("answer") or ""), str(row.get("text") or "")
    return Example(
        str(row["id"]), _ending_with(question), str(row["label"]), answer,
        "" if said.strip() == answer else _ending_with(said),
    )  # fmt: skip


def _ending_with(text: str) -> str:
    """A text's end, where it is long: a vignette ends with its question, a chain of thought with its answer."""
    text = text.strip()
    return text if len(text) <= LONGEST else f"… {text[-LONGEST:]}"
