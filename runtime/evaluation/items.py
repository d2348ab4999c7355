"""What a task is asked of: pictures with their true labels, the patient of each, and its side of the split; and questions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from ..pictures.images import ImageSource

Part = Literal["train", "test"]
LETTERS = "ABCDEFGHIJ"  # of options
T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """A picture with what is known of it.

    Attributes:
        key: names it: its path below the data folder, or its row in a file of many.
        open: gives the picture; called when its turn comes.
        truth: {label: whether it holds}; a label of which that is not known is left out.
        group: the patient, lesion or slide that it is of; "" where the data don't say.
        about: {property: value}, such as sex, by which results are told apart.
        part: the side of the data's own split that it stands on.
    """

    key: str
    open: Callable[[], ImageSource]
    truth: Mapping[str, bool]
    group: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    part: Part = "test"


@dataclass(frozen=True)
class Found:
    """What a folder holds of a task.

    Attributes:
        items: pictures with labels.
        absent: rows whose picture is not in the folder.
        unlisted: {label: rows}, of labels that the task does not know; they are left out.
        has_split: whether the data say which items are for training.
    """

    items: list[Item]
    absent: int = 0
    unlisted: Mapping[str, int] = field(default_factory=dict)
    has_split: bool = False


def hidden(name: str) -> str:
    """The first 16 hexadecimal digits of a name's SHA-256: the same name gives the same ones, and they don't say it."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def without_names(items: Sequence[Item]) -> list[Item]:
    """Items whose names, and whose groups' names, are hashes."""
    return [replace(item, key=hidden(item.key), group=hidden(item.group) if item.group else "") for item in items]


def drawn(items: Sequence[T], limit: int | None, seed: int) -> list[T]:
    """So many of the items, drawn at random, in their order; all where there are no more.

    Args:
        items: the items.
        limit: how many; all where None.
        seed: of the draw.
    """
    if limit is None or limit >= len(items):
        return list(items)
    # One order for all limits: a higher limit draws the same items and more, so that a run goes on with it.
    order = np.random.default_rng(seed).permutation(len(items))[:limit]
    return [items[place] for place in sorted(order.tolist())]


def age_band(text: str) -> str:
    """An age as csv files write it ("58", "58.0", "058Y") to its band of twenty years; "" where it is none."""
    digits = text.strip().upper().removesuffix("Y").split(".")[0]
    if not digits.isdigit() or int(digits) > 120:
        return ""
    low = min(int(digits) // 20 * 20, 80)
    return f"{low} and over" if low == 80 else f"{low} to {low + 19}"


@dataclass(frozen=True)
class Question:
    """A question with options.

    Attributes:
        key: names it.
        text: what is asked, and what is told before it.
        options: at least two.
        right: the place of the right one.
        subject: "" where the data don't say.
    """

    key: str
    text: str
    options: tuple[str, ...]
    right: int
    subject: str = ""


@dataclass(frozen=True)
class ImageQuestion:
    """A question about an image.

    Attributes:
        key: names it.
        text: what is asked.
        answer: the right one, a word or a few.
        open: gives the image.
        closed: whether it has few possible answers, such as yes and no.
        image: names the image: several questions are about one.
        subject: the organ or kind; "" where the data don't say.
    """

    key: str
    text: str
    answer: str
    open: Callable[[], ImageSource]
    closed: bool
    image: str
    subject: str = ""


AnswerKind = Literal["number", "date", "yes or no", "list", "text"]


@dataclass(frozen=True)
class RecordQuestion:
    """A question over a patient's record.

    Attributes:
        key: names it.
        text: what is asked.
        answer: the right one; of a list the entries, with semicolons between them.
        kind: what the answer is, which says how it is compared.
        record: the file of the record.
        group: names the patient.
    """

    key: str
    text: str
    answer: str
    kind: AnswerKind
    record: Path
    group: str


@dataclass(frozen=True)
class ReportItem:
    """A chest film with what a radiologist wrote of it.

    Attributes:
        key: names the study.
        report: the section that a model is to write.
        open: gives the film.
        image: names the film.
        group: the patient; "" where the data don't say.
    """

    key: str
    report: str
    open: Callable[[], ImageSource]
    image: str
    group: str = ""


Posed = Question | ImageQuestion | RecordQuestion | ReportItem


@dataclass(frozen=True)
class FoundQuestions:
    """What a folder holds of a task of questions.

    Attributes:
        questions: at least one.
        left_out: {why: how many}, of entries that can't be asked.
    """

    questions: list[Posed]
    left_out: Mapping[str, int] = field(default_factory=dict)
