"""Questions with options: medge's own JSON lines, and PubMedQA, MedQA and VQA-RAD as they are published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...runtime.errors import CorpusError
from .corpus import Choice, json_lines, named_image, read_text

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
    options, answer = tuple(map(str, body["options"])), int(body["answer"])
    if not 0 <= answer < len(options) >= 2:
        raise ValueError('"answer" is no index of at least two options')
    return Choice(str(body["question"]), options, answer, named_image(path, body))


def _medqa(body: dict[str, Any]) -> Choice:
    """A line of MedQA: options by letter, and the right one's letter, or its text beside the letter."""
    options = {str(letter): str(text) for letter, text in body["options"].items()}
    letters = tuple(options)
    right = str(body.get("answer_idx", body["answer"]))
    if right not in options:
        raise ValueError(f"the answer {right!r} is no letter of an option")
    question = str(body["question"])
    if any(text not in question for text in options.values()):  # some copies list the options in the question
        question += "".join(f"\n{letter}) {text}" for letter, text in options.items())
    return Choice(f"{question}\nAnswer with the letter of the right option.", letters, letters.index(right))


def _read_json(path: Path) -> Iterator[Choice]:
    try:
        body = json.loads(read_text(path))
        if isinstance(body, dict):
            yield from (_pubmedqa(entry) for entry in body.values())
        else:
            yield from (_vqa_rad(path, entry) for entry in body if _is_closed(entry))
    except KeyError as error:
        raise CorpusError(f"{path}: {error} is missing; expected {FORMS}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CorpusError(f"{path}: {error}; expected {FORMS}") from error


def _pubmedqa(entry: dict[str, Any]) -> Choice:
    options = ("yes", "no", "maybe")
    question = " ".join(entry["CONTEXTS"]) + f"\n{entry['QUESTION']} Answer yes, no or maybe."
    return Choice(question, options, options.index(entry["final_decision"]))


def _is_closed(entry: dict[str, Any]) -> bool:
    return str(entry["answer"]).strip().lower() in ("yes", "no")


def _vqa_rad(path: Path, entry: dict[str, Any]) -> Choice:
    places = [path.parent / folder / str(entry["image_name"]) for folder in VQA_RAD_IMAGES]
    image = next((place for place in places if place.is_file()), None)
    if image is None:
        raise ValueError(
            f"{entry['image_name']} is not beside the file, nor in {' or '.join(VQA_RAD_IMAGES[:2])} there"
        )
    answer = str(entry["answer"]).strip().lower()
    return Choice(f"{entry['question']} Answer yes or no.", ("yes", "no"), int(answer == "no"), image)
