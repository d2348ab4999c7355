"""Questions with options, of which one is right, as the sets are handed out: JSON lines, JSON, Parquet, csv."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...errors import MissingExtraError, TaskError, one_line
from ...json_text import loads
from ...written_text import read_written
from ..items import LETTERS, FoundQuestions, Question
from ..places import find_files

Entry = dict[str, Any]


@dataclass(frozen=True)
class Choices:
    """A file, or several, with an entry a question.

    Attributes:
        file: patterns of their names; of the first that any file has, all are read.
        question: the field of the question.
        options: fields of the options, in their order; or one field, which holds them by letter or as a list.
        fixed: options that all questions have, in the place of `options`.
        answer: alternatives of the field of the right one; the first that an entry has counts.
        answer_is: what it holds: a letter, the option's text, or a number that counts from 1 in some copies and from 0 in others.
        context: the field of what is told before the question, a text or several; "" where there is nothing.
        id: the field of a name; "" where the entry's place in the file is its name.
        subject: the field of the subject, "file" for the file's name, "" where there is none.
    """

    file: tuple[str, ...]
    question: str
    answer: tuple[str, ...]
    answer_is: Literal["letter", "text", "number"]
    options: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    context: str = ""
    id: str = ""
    subject: str = ""

    def __post_init__(self) -> None:
        if bool(self.options) == bool(self.fixed):
            raise ValueError('give "options" or "fixed", one of the two')
        if self.answer_is == "number" and len(self.options) < 2:
            raise ValueError("numbers of answers need a field an option")

    def read(self, folder: Path, task: str) -> FoundQuestions:
        """The questions of a folder.

        Args:
            folder: where the data lie.
            task: its name, for errors.

        Raises:
            TaskError: no such file, or an entry is not as the task says.
            MissingExtraError: a package that reads such a file is not installed.
        """
        files = find_files(folder, self.file, task)
        questions: list[Question] = []
        for path in files:
            entries = list(read_entries(path))
            first = self._first_number(path, [entry for _, entry in entries])
            prefix = f"{path.stem}/" if len(files) > 1 else ""
            for name, entry in entries:
                try:
                    questions.append(self._question(entry, f"{prefix}{name}", path, first))
                except (KeyError, ValueError, TypeError) as error:
                    missing = "the field " if isinstance(error, KeyError) else ""
                    raise TaskError(
                        f"{path}, entry {name}: {missing}{one_line(error, 200)} is not as the task '{task}' needs it"
                    ) from error
        if len({question.key for question in questions}) < len(questions):
            raise TaskError(f"{folder}: two questions of the task '{task}' have the same name")
        return FoundQuestions(list(questions))

    def _question(self, entry: Entry, place: str, path: Path, first: int) -> Question:
        options = self._options(entry)
        if not 2 <= len(options) <= len(LETTERS):
            raise ValueError(f"{len(options)} options")
        told = entry[self.context] if self.context else []
        context = "\n".join([told] if isinstance(told, str) else map(str, told))
        text = _without_options(str(entry[self.question]).strip(), options)
        subject = path.stem.removesuffix("_test") if self.subject == "file" else str(entry.get(self.subject) or "")
        return Question(
            str(entry[self.id]) if self.id else place, f"{context}\n\n{text}" if context else text, options,
            self._right(self._answer(entry), options, first), subject,
        )  # fmt: skip

    def _answer(self, entry: Entry) -> Any:
        return entry[next((name for name in self.answer if name in entry), self.answer[0])]

    def _options(self, entry: Entry) -> tuple[str, ...]:
        if self.fixed:
            return self.fixed
        if len(self.options) > 1:
            return tuple(str(entry[field]).strip() for field in self.options)
        held = entry[self.options[0]]
        return tuple(str(one).strip() for one in (held.values() if isinstance(held, dict) else held))

    def _right(self, answer: Any, options: Sequence[str], first: int) -> int:
        if self.answer_is == "number":
            place = int(answer) - first
        else:
            said = str(answer).strip()
            place = LETTERS.find(said.upper()) if self.answer_is == "letter" else list(options).index(said)
            if self.answer_is == "letter" and len(said) != 1:
                place = -1
        if not 0 <= place < len(options):
            raise ValueError(f"the answer {str(answer)[:40]!r}")
        return place

    def _first_number(self, path: Path, entries: Sequence[Entry]) -> int:
        """Whether answers count from 0 or from 1, as the file itself shows it.

        Raises:
            TaskError: it does not show it.
        """
        if self.answer_is != "number":
            return 0
        said = [str(entry.get(self.answer[0], "")) for entry in entries]
        seen = {int(one) for one in said if one.isdigit()}
        if 0 in seen or len(self.options) in seen:
            return 0 if 0 in seen else 1
        raise TaskError(f"{path}: of its answers {sorted(seen)} nothing says whether they count from 0 or from 1")


def read_entries(path: Path) -> Iterator[tuple[str, Entry]]:
    """The entries of a file with their names: numbers, or the keys of a JSON object.

    A csv has no head: its fields are "0", "1" and so on.

    Raises:
        TaskError: it can't be read.
        MissingExtraError: a package that reads it is not installed.
    """
    try:
        if path.suffix == ".parquet":
            yield from ((str(number), entry) for number, entry in enumerate(_parquet(path)))
            return
        text = read_written(path, TaskError)
        if path.suffix == ".csv":
            rows: Any = [dict(zip(map(str, range(99)), row, strict=False)) for row in csv.reader(text.splitlines(True))]
        elif path.suffix == ".jsonl":
            rows = [loads(line) for line in text.split("\n") if line.strip()]
        else:
            rows = loads(text)
        if not isinstance(rows, list | dict):
            raise ValueError("it is no list and no object")
        named = rows.items() if isinstance(rows, dict) else enumerate(rows)
        for name, entry in named:
            if not isinstance(entry, dict):
                raise ValueError(f"entry {name} is no object")
            yield str(name), entry
    except (OSError, ValueError, csv.Error) as error:
        raise TaskError(f"{path}: can't be read as questions ({one_line(error)})") from error


def _parquet(path: Path) -> list[Entry]:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    return list(parquet.read_table(path).to_pylist())


def _without_options(text: str, options: Sequence[str]) -> str:
    """A question without the list of its options, which some copies put below it; the prompt lists them itself."""
    listed = "".join(f"\n{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    return text.removesuffix(listed)
