"""Questions about images with their answers, as VQA-RAD, SLAKE and PathVQA are handed out: JSON or Parquet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...errors import TaskError, one_line
from ...pictures.images import ImageSource
from ..items import FoundQuestions, ImageQuestion
from ..places import NO_IMAGE, Pictures, find_files
from .choices import Entry, read_entries


@dataclass(frozen=True)
class ImageQuestions:
    """A file, or several, with an entry a question.

    Attributes:
        file: patterns of their names; of the first that any file has, all are read.
        image: alternatives of the field of the image: its name, or, in Parquet, its bytes.
        question, answer: fields.
        folder: where images lie whose names hold folders of their own.
        closed: the field that says "CLOSED" of a question with few possible answers; where an entry has none, the questions whose
            answer is yes or no are closed.
        id: the field of a name; where an entry has none, its place in the file is its name.
        subject: alternatives of the field of the organ, kind or the like.
        where: {field: values}: an entry that has such a field with another value is left out.
    """

    file: tuple[str, ...]
    image: tuple[str, ...]
    folder: str = ""
    question: str = "question"
    answer: str = "answer"
    closed: str = "answer_type"
    id: str = "qid"
    subject: tuple[str, ...] = ()
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def read(self, folder: Path, task: str) -> FoundQuestions:
        """The questions of a folder whose image is there.

        Args:
            folder: where the data lie.
            task: its name, for errors.

        Raises:
            TaskError: no such file, an entry is not as the task says, or no image is there.
            MissingExtraError: a package that reads such a file is not installed.
        """
        files = find_files(folder, self.file, task)
        pictures, absent = Pictures(folder), 0
        questions: dict[str, ImageQuestion] = {}
        for path in files:
            for name, entry in read_entries(path):
                if not all(str(entry[key]) in values for key, values in self.where.items() if key in entry):
                    continue
                try:
                    one = self._question(entry, name if len(files) == 1 else f"{path.stem}/{name}", pictures)
                except (KeyError, ValueError, TypeError) as error:
                    raise TaskError(
                        f"{path}, entry {name}: {one_line(error, 200)} is not as the task '{task}' needs it"
                    ) from error
                if one is None:
                    absent += 1
                else:
                    questions[one.key] = one
        if not questions:
            raise TaskError(f"{folder}: no image that the questions of '{task}' name is in there")
        return FoundQuestions(list(questions.values()), {NO_IMAGE: absent} if absent else {})

    def _question(self, entry: Entry, place: str, pictures: Pictures) -> ImageQuestion | None:
        """The question of an entry; None where its image is not there."""
        held = entry[next((name for name in self.image if name in entry), self.image[0])]
        image = _image(held, self.folder, pictures)
        if image is None:
            return None
        answer = str(entry[self.answer]).strip()
        kind = str(entry.get(self.closed) or "").strip().upper()
        closed = kind == "CLOSED" if kind else answer.lower() in ("yes", "no")
        subject = next((str(entry[name]).strip().lower() for name in self.subject if entry.get(name)), "")
        key = str(entry[self.id]) if self.id in entry else place
        return ImageQuestion(key, str(entry[self.question]).strip(), answer, image[0], closed, image[1], subject)


def _image(held: Any, folder: str, pictures: Pictures) -> tuple[Callable[[], ImageSource], str] | None:
    """How an image is opened, and its name; None where it is not there."""
    if isinstance(held, dict):  # as Hugging Face's data sets hold it
        content = held.get("bytes")
        if not isinstance(content, bytes):
            raise ValueError("an image without bytes")
        return (lambda: content), sha256(content).hexdigest()[:16]
    path = pictures.find(f"{folder}/{held}" if folder and "/" in str(held) else str(held))
    return None if path is None else ((lambda: path), str(held))
