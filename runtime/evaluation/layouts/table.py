"""Tables of labels: a csv in which each row is a picture."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from ...errors import TaskError, one_line
from ..items import Found, Item, Part, age_band
from ..places import Pictures, find_file, try_file

Row = dict[str, str]
YES, NO = ("1", "1.0", "yes", "true"), ("0", "0.0", "no", "false")


@dataclass(frozen=True)
class Join:
    """A second table whose rows belong to those of the first.

    Attributes:
        file: alternatives of its name.
        by: columns that both have, by which rows belong together.
    """

    file: tuple[str, ...]
    by: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Which rows are for testing and which for training, where the data say so.

    Attributes:
        column, test, train: the column, and its values for either side.
        test_list, train_list: files that list the names of images, a line each.
        train_file: alternatives of the name of a second table, whose rows are for training.
    """

    column: str = ""
    test: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    test_list: str = ""
    train_list: str = ""
    train_file: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A csv with a row a picture.

    Attributes:
        file: alternatives of its name.
        image: a picture's name or path, from the row: "{image_id}"; "{id:.2}" are the first two characters.
        label: the column of the label, or of several; "" where each label has a column of its own.
        separator: between several labels in that column.
        weights: whether the column holds {label: weight}, of which the heaviest counts.
        blank: what an empty cell of a label's own column says: "no", or "unknown".
        join: a second table.
        split: sides of the split.
        group: the column of the patient or the like.
        group_pattern: a pattern whose first bracket is the patient in that column; "" where the whole cell is.
        about: {property: column}.
        age: the column of the age, which is told in bands of twenty years.
    """

    file: tuple[str, ...]
    image: str
    label: str = ""
    separator: str = ""
    weights: bool = False
    blank: Literal["no", "unknown"] = "unknown"
    join: Join | None = None
    split: Split = field(default_factory=Split)
    group: str = ""
    group_pattern: str = ""
    about: dict[str, str] = field(default_factory=dict)
    age: str = ""

    def __post_init__(self) -> None:
        check_pattern(self.group_pattern)

    def read(self, folder: Path, task: str, labels: Mapping[str, str]) -> Found:
        """The items of a folder.

        Args:
            folder: where the data lie.
            task: its name, for errors.
            labels: {how the data write it: label}; empty where the column says what the labels are.

        Raises:
            TaskError: a file or a column is missing.
        """
        pictures, unlisted = Pictures(folder), Counter[str]()
        # Some copies write a finding of two words with a blank, others with an underscore.
        plain = {_plain(value): name for value, name in labels.items()}
        items: dict[str, Item] = {}
        absent = 0
        for row, part in self._rows(folder, task, labels):
            truth = self._truth(row, labels, plain, unlisted)
            if not truth:
                continue
            path = pictures.find(self.image.format_map(row))
            if path is None:
                absent += 1
                continue
            about = {name: row[column].strip() for name, column in self.about.items()}
            if self.age:
                about["age"] = age_band(row[self.age])
            key = path.relative_to(folder).as_posix()
            items[key] = Item(
                key, partial(Path, path), truth, self._group(row),
                {name: value for name, value in about.items() if value}, part,
            )  # fmt: skip
        split = any(item.part == "train" for item in items.values())
        return Found(list(items.values()), absent, unlisted, split)

    def _rows(self, folder: Path, task: str, labels: Mapping[str, str]) -> Iterator[tuple[Row, Part]]:
        """Rows with the side that each stands on; one that stands on none is left out."""
        path = find_file(folder, self.file, task)
        joined = self._joined(folder, task)
        lists = {
            side: _listed(folder, name)
            for side, name in (("test", self.split.test_list), ("train", self.split.train_list))
        }
        for row in self._table(path, joined, task, labels):
            if (part := self._part(row, lists)) is not None:
                yield row, part
        if self.split.train_file and (train := try_file(folder, self.split.train_file)):
            for row in self._table(train, joined, task, labels):
                yield row, "train"

    def _table(
        self, path: Path, joined: dict[tuple[str, ...], Row] | None, task: str, labels: Mapping[str, str]
    ) -> Iterator[Row]:
        checked = False
        for row in read_rows(path):
            if joined is not None and self.join is not None:
                more = joined.get(_key(path, row, self.join.by, task))
                if more is None:
                    continue
                row = {**row, **more}
            if not checked:
                self._check(path, row, task, labels)
                checked = True
            yield row

    def _check(self, path: Path, row: Row, task: str, labels: Mapping[str, str]) -> None:
        try:
            self.image.format_map(row)
            asked = [self.label] if self.label else list(labels)
            for column in (*asked, self.group, self.age, self.split.column, *self.about.values()):
                if column:
                    row[column]
        except KeyError as error:
            raise TaskError(
                f"{path}: there is no column {error}, which the task '{task}' needs; is it another version of the data?"
            ) from error

    def _joined(self, folder: Path, task: str) -> dict[tuple[str, ...], Row] | None:
        if self.join is None:
            return None
        path = find_file(folder, self.join.file, task)
        return {_key(path, row, self.join.by, task): row for row in read_rows(path)}

    def _part(self, row: Row, lists: Mapping[str, set[str] | None]) -> Part | None:
        if self.split.column:
            value = row[self.split.column]
            return "test" if value in self.split.test else "train" if value in self.split.train else None
        name = self.image.format_map(row)
        if (test := lists["test"]) is None:
            return "test"
        if name in test:
            return "test"
        train = lists["train"]
        return "train" if train is None or name in train else None

    def _truth(
        self, row: Row, labels: Mapping[str, str], plain: Mapping[str, str], unlisted: Counter[str]
    ) -> dict[str, bool]:  # fmt: skip
        """{label: whether it holds}; empty where the row says nothing of the task's labels."""
        if not self.label:
            return {name: holds for value, name in labels.items() if (holds := self._holds(row[value])) is not None}
        if self.weights:
            said = _heaviest(row[self.label])
        else:
            said = (
                [part.strip() for part in row[self.label].split(self.separator)]
                if self.separator
                else [row[self.label]]
            )
        known = [plain[_plain(value)] for value in said if _plain(value) in plain] if labels else [v for v in said if v]
        if self.separator:
            return {name: name in known for name in labels.values()}
        if not known:
            unlisted.update(value for value in said if value)
            return {}
        return {**dict.fromkeys(labels.values(), False), known[0]: True}

    def _group(self, row: Row) -> str:
        cell = row[self.group].strip() if self.group else ""
        return first_bracket(self.group_pattern, cell) if self.group_pattern else cell

    def _holds(self, cell: str) -> bool | None:
        said = cell.strip().lower()
        if not said and self.blank == "no":
            return False
        return True if said in YES else False if said in NO else None


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a csv, gzipped or not; a cell that a short row lacks is empty.

    Raises:
        TaskError: it can't be read.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
            for row in csv.DictReader(text, restval=""):
                yield {name.strip(): value for name, value in row.items() if name is not None}
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise TaskError(f"{path}: can't be read as a table ({one_line(error)})") from error


def check_pattern(pattern: str) -> None:
    """Refuse a pattern without a bracket.

    Raises:
        ValueError: it has none, or is no pattern.
    """
    try:
        brackets = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r} is no pattern ({error})") from error
    if pattern and not brackets:
        raise ValueError(f"{pattern!r} has no bracket")


def first_bracket(pattern: str, text: str) -> str:
    """What a pattern's first bracket finds in a text; "" where it finds nothing."""
    found = re.search(pattern, text)
    return found[1] or "" if found else ""


def _key(path: Path, row: Row, by: tuple[str, ...], task: str) -> tuple[str, ...]:
    try:
        return tuple(row[column] for column in by)
    except KeyError as error:
        raise TaskError(f"{path}: there is no column {error}, which the task '{task}' needs") from error


def _listed(folder: Path, name: str) -> set[str] | None:
    """The names in a list of images; None where there is no such list."""
    path = try_file(folder, [name]) if name else None
    return None if path is None else {line.strip() for line in path.read_text(encoding="utf-8").splitlines()}


def _heaviest(cell: str) -> list[str]:
    """The heaviest label of "{'Eczema': 0.6, 'Urticaria': 0.4}"; none where there is no such thing."""
    import ast

    try:
        weights = json.loads(cell) if '"' in cell else ast.literal_eval(cell or "{}")
        return [max(weights, key=weights.__getitem__)] if weights else []
    except (ValueError, SyntaxError, TypeError, AttributeError, RecursionError, MemoryError):
        return []


def _plain(value: str) -> str:
    return value.strip().replace("_", " ").lower()
