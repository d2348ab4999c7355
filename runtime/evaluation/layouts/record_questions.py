"""Questions over patients' records: FHIR bundles, as Synthea writes them, and a file of questions beside them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from ...errors import TaskError, one_line
from ..answers.records import sound
from ..items import AnswerKind, FoundQuestions, RecordQuestion
from ..places import find_files
from .choices import Entry, read_entries

NO_RECORD = "record not in the folder"


@dataclass(frozen=True)
class RecordQuestions:
    """A file, or several, with an entry a question, and the records that they name.

    Attributes:
        file: patterns of the names of files of questions; of the first that any file has, all are read.
        folders: where records may lie, below the data folder or the file of questions; "." is these folders themselves.
        record: the field of the record's file name.
        question, answer: fields; the answer is a text, a number, or a list.
        kind: the field that says what the answer is: "number", "date", "yes or no", "list" or "text".
        id: the field of a name; where an entry has none, its place in the file is its name.
    """

    file: tuple[str, ...]
    folders: tuple[str, ...] = (".", "fhir", "output/fhir")
    record: str = "record"
    question: str = "question"
    answer: str = "answer"
    kind: str = "kind"
    id: str = "id"

    def read(self, folder: Path, task: str) -> FoundQuestions:
        """The questions of a folder whose record is there.

        Args:
            folder: where the data lie.
            task: its name, for errors.

        Raises:
            TaskError: no such file, an entry is not as the task says, or no record is there.
            MissingExtraError: a package that reads such a file is not installed.
        """
        questions: dict[str, RecordQuestion] = {}
        left_out: Counter[str] = Counter()
        files = find_files(folder, self.file, task)
        for path in files:
            for place, entry in read_entries(path):
                try:
                    name = str(entry[self.record])
                    record = self._record(name, folder, path.parent)
                    one = self._question(entry, f"{path.stem}/{place}" if len(files) > 1 else place, record, name)
                except (KeyError, ValueError, TypeError) as error:
                    missing = "the field " if isinstance(error, KeyError) else ""
                    raise TaskError(
                        f"{path}, entry {place}: {missing}{one_line(error, 200)} is not as the task '{task}' needs it"
                    ) from error
                if one is None:
                    left_out[NO_RECORD] += 1
                elif one.key in questions:
                    raise TaskError(f"{path}: two questions have the name {one_line(one.key, 80)!r}")
                else:
                    questions[one.key] = one
        if not questions:
            raise TaskError(f"{folder}: no record that the questions of '{task}' name is in there")
        return FoundQuestions(list(questions.values()), left_out)

    def _record(self, name: str, *roots: Path) -> Path | None:
        if Path(name).name != name:
            raise ValueError(f"the record {name!r}, which should be a file's name,")
        places = (root / sub / name for root in roots for sub in self.folders)
        return next((path for path in places if path.is_file()), None)

    def _question(self, entry: Entry, place: str, record: Path | None, name: str) -> RecordQuestion | None:
        """The question of an entry; None where its record is not there. An entry that is wrong is refused either way."""
        kind = str(entry[self.kind])
        if kind not in (kinds := get_args(AnswerKind)):
            raise ValueError(f"the kind {kind!r}, which is none of {', '.join(kinds)},")
        answer = _text(entry[self.answer], kind)
        kind = cast("AnswerKind", kind)
        if not sound(answer, kind):
            raise ValueError(f"the answer {answer!r}, which is no answer of the kind {kind!r},")
        if record is None:
            return None
        key = str(entry[self.id]) if self.id in entry else place
        return RecordQuestion(key, str(entry[self.question]).strip(), answer, kind, record, name)


def _text(answer: Any, kind: str) -> str:
    if kind == "list" and isinstance(answer, list):
        if any(";" in str(one) for one in answer):
            raise ValueError("the answer, which has a semicolon in an entry of its list,")
        return "; ".join(map(str, answer)) or "none"
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise ValueError(f"the answer {answer!r}")
    return str(answer).strip()
