"""Examples to distil from that a teacher makes itself: its answers to questions and about images that nobody has labelled.

Needs no torch: the teacher is a bundle, at q8_0 or more, which the runtime runs.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.bundles.manifest import sha256_file, sha256_json
from ...runtime.errors import CorpusError
from ...runtime.generator.conversation import CUT_OFF, Answer, Chat, Sampling, about
from ...runtime.pictures.images import find_images
from ..source.corpus import json_lines, named_image, read_text, text_in

ABOUT_AN_IMAGE = "Describe this image and what it shows."
STEP_BY_STEP = "Think step by step before you answer."
# Of an answer that goes round: so many words in a row stand in it so often.
RUN, OFTEN = 6, 4
FEWEST_WORDS = 2


@dataclass(frozen=True)
class Question:
    """What the teacher is asked.

    Attributes:
        text: the question, as it is put.
        image: that it is about; None for none.
        source: the name of the file or folder that it comes from.
    """

    text: str
    image: Path | None
    source: str

    def key(self) -> str:
        """The same of the same question about the same picture, whatever the file is called."""
        image = "" if self.image is None else str(self.image)
        if self.image is not None and self.image.is_file():
            image = sha256_file(self.image)
        return sha256_json([" ".join(self.text.lower().split()), image])[:16]

    def row(self) -> dict[str, Any]:
        image = {} if self.image is None else {"image": str(self.image.absolute())}
        return {"question": self.text, **image, "source": self.source}


def read_questions(
    files: Sequence[Path], images: Sequence[Path], about_an_image: str = ABOUT_AN_IMAGE, *, step_by_step: bool = False
) -> dict[str, Question]:
    """Questions by their keys, each once.

    Args:
        files: JSON lines, {"question", "image": path or absent}, or texts with a question on each line.
        images: images or folders of them; each is asked about.
        about_an_image: the question about each of them.
        step_by_step: ask the teacher to think before it answers.

    Raises:
        CorpusError: a file can't be read, a line is of another form, or there is no question.
        ImageError: a folder holds no image.
    """
    found: dict[str, Question] = {}
    shown = (Question(about_an_image, path, path.parent.name) for path in (find_images(list(images)) if images else ()))
    for question in (*_in_files(files), *shown):
        text = f"{question.text}\n{STEP_BY_STEP}" if step_by_step else question.text
        one = Question(text, question.image, question.source)
        found.setdefault(one.key(), one)
    if not found:
        raise CorpusError(f"{', '.join(map(str, [*files, *images])) or 'nothing given'}: no question in there")
    return found


def _in_files(files: Sequence[Path]) -> Iterator[Question]:
    for path in files:
        if path.suffix == ".jsonl":

            def parse(body: dict[str, Any], path: Path = path) -> Question:
                return Question(text_in(body, "question"), named_image(path, body), path.name)

            yield from json_lines(path, '{"question", "image": path or absent}', parse)
        else:
            yield from (
                Question(line.strip(), None, path.name) for line in read_text(path).splitlines() if line.strip()
            )


def left_out(answer: Answer) -> str | None:
    """Why nothing should be learned from an answer; None where it is good enough."""
    words = answer.text.split()
    if answer.stop != "end":
        return f"cut off {CUT_OFF[answer.stop]}"
    if len(words) < FEWEST_WORDS or not re.search(r"\w", answer.text):
        return "next to nothing"
    runs = collections.Counter(tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1))
    if max(runs.values(), default=0) >= OFTEN:
        return "repeats itself"
    return None


def answered(teacher: Chat, question: Question, sampling: Sampling) -> tuple[dict[str, Any], str | None]:
    """A question's row with the teacher's answer, and why it should be left out, if it should.

    Raises:
        ImageError: its image can't be read.
        GeneratorError, ContextError: the question can't be put to this teacher.
    """
    answer = teacher.chat([about(question.image, question.text)], sampling)
    return {**question.row(), "answer": answer.text.strip()}, left_out(answer)
