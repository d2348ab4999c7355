"""Questions with options: medge's own JSON lines, and PubMedQA, MedQA and VQA-RAD as they are published."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...runtime.errors import CorpusError, one_line
from ...runtime.json_text import loads
from .corpus import Choice, json_lines, named_image, read_text, text_in

FORM = '{"question", "options": [...], "answer": index, "image": path or absent}'
FORMS = f"JSON lines of {FORM}, MedQA's JSON lines, PubMedQA's JSON object, or VQA-RAD's JSON list"
VQA_RAD_IMAGES = ("images", "VQA_RAD Image Folder", ".")  # beside the file of questions


def read_choices(path: Path) -> list[Choice]:
    """Questions with options, of which one is right.

    Args:
        path: JSON lines of medge's own form, MedQA's JSON lines, PubMedQA's `ori_pqal.json`, or VQA-RAD's list of questions,
            of which those with the answers yes and no are taken.

    Raises:
        CorpusError: the file can't be read, is of none of these forms, or holds no question.
    """
    if path.suffix.lower() == ".json":
        found = list(_read_json(path))
    else:
        found = list(json_lines(path, FORM, lambda body: _line(path, body)))
    if not found:
        raise CorpusError(f"{path}: no question with options in there; expected {FORMS}")
    return found


def _line(path: Path, body: dict[str, Any]) -> Choice:
    if isinstance(body["options"], dict):
        return _medqa(body)
    if not isinstance(body["options"], list):
        raise ValueError('"options" is no list')
    options, answer = tuple(map(_option, body["options"])), body["answer"]
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(options) >= 2:
        raise ValueError('"answer" is no index of at least two options')
    if len(set(options)) < len(options):
        raise ValueError("two options are the same")
    return Choice(text_in(body, "question"), options, answer, named_image(path, body))


def _option(value: Any) -> str:
    """An option, which may be a number.

    Raises:
        ValueError: it is neither, or empty.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("an option is no text")
    if not (value.strip() if isinstance(value, str) else math.isfinite(value)):
        raise ValueError("an option is empty")
    return str(value)


def _medqa(body: dict[str, Any]) -> Choice:
    """A line of MedQA: options by letter, and the right one's letter, or its text beside the letter."""
    options = {str(letter): _option(text) for letter, text in body["options"].items()}
    letters = tuple(options)
    right = text_in(body, "answer_idx" if "answer_idx" in body else "answer")
    if right not in options or len(options) < 2:
        raise ValueError(f"the answer {right[:80]!r} is no letter of at least two options")
    question = text_in(body, "question")
    if any(text not in question for text in options.values()):  # some copies list the options in the question
        question += "".join(f"\n{letter}) {text}" for letter, text in options.items())
    return Choice(f"{question}\nAnswer with the letter of the right option.", letters, letters.index(right))


def _read_json(path: Path) -> Iterator[Choice]:
    try:
        body = loads(read_text(path))
        if isinstance(body, dict):
            yield from map(_pubmedqa, body.values())
        elif not isinstance(body, list):
            raise ValueError("neither an object nor a list")
        else:
            yield from (_vqa_rad(path, entry) for entry in body if _is_closed(entry))
    except KeyError as error:
        raise CorpusError(f"{path}: {one_line(error, 80)} is missing; expected {FORMS}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CorpusError(f"{path}: {one_line(error, 240)}; expected {FORMS}") from error


def _pubmedqa(entry: Any) -> Choice:
    if not isinstance(entry, dict):
        raise ValueError("an entry of its object is no object itself")
    options = ("yes", "no", "maybe")
    if not isinstance(entry["CONTEXTS"], list):
        raise ValueError('"CONTEXTS" is no list')
    question = " ".join(entry["CONTEXTS"]) + f"\n{text_in(entry, 'QUESTION')} Answer yes, no or maybe."
    return Choice(question, options, options.index(entry["final_decision"]))


def _is_closed(entry: Any) -> bool:
    if not isinstance(entry, dict):
        raise ValueError("an entry of its list is no object")
    return str(entry["answer"]).strip().lower() in ("yes", "no")  # other answers are numbers, too


def _vqa_rad(path: Path, entry: dict[str, Any]) -> Choice:
    name = text_in(entry, "image_name")
    places = [path.parent / folder / name for folder in VQA_RAD_IMAGES]
    image = next((place for place in places if len(name) <= 255 and place.is_file()), None)
    if image is None:
        raise ValueError(f"{name[:255]} is not beside the file, nor in {' or '.join(VQA_RAD_IMAGES[:2])} there")
    answer = str(entry["answer"]).strip().lower()
    return Choice(f"{text_in(entry, 'question')} Answer yes or no.", ("yes", "no"), int(answer == "no"), image)
