"""Label files, and what users give as JSON lines or JSON: corpora, captions, questions with options, published task files."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..mutate import TEXTS, edit_json, json_edits, mangled, nasty
from ..verdict import Kind, WrongError

_LABELS: Any = {"normal": ["a normal film", "no finding"], "pneumonia": "a film with pneumonia", "effusion": []}
_LINES: dict[str, list[Any]] = {
    "labels.json": [_LABELS],
    "labels.txt": ["normal", "pneumonia", "effusion"],
    "texts.jsonl": [{"text": "The lungs are clear."}, {"text": "No effusion."}],
    "examples.jsonl": [{"text": "clear"}, {"question": "What?", "answer": "A film.", "image": "a.png"}, {"question": "Why?",
    "answer": "x"}],
    "captions.jsonl": [{"image": "a.png", "caption": "a film"}, {"image": "b.png", "caption": "another"}],
    "choices.jsonl": [{"question": "Is it?", "options": ["yes", "no"], "answer": 0, "image": "a.png"},
    {"question": "Which?", "options": ["a", "b", "c"], "answer": 2}],
    "medqa.jsonl": [{"question": "Which?", "options": {"A": "aspirin", "B": "none"}, "answer": "none", "answer_idx": "B"}],
    "pubmedqa.json": [{"1": {"QUESTION": "Does it?", "CONTEXTS": ["It may.", "Or not."], "final_decision": "maybe"},
                       "2": {"QUESTION": "Is it?", "CONTEXTS": [], "final_decision": "yes"}}],
    "vqarad.json": [[{"question": "Is it?", "answer": "Yes", "image_name": "a.png"}, {"question": "What?", "answer": "lung",
    "image_name": "b.png"}]],
}  # fmt: skip


def make(rng: random.Random, base: Path) -> bytes:
    name = rng.choice(list(_LINES))
    values = _LINES[name]
    if name == "labels.txt":
        lines = [*values, *rng.choices(TEXTS, k=rng.choice((0, 1, 2)))]
        rng.shuffle(lines)
        body = rng.choice(("\n", "\r\n", "\n\n", "\r", "\x0b", "\u2028")).join(lines).encode("utf-8", "surrogatepass")
    else:
        at = rng.randrange(len(values))
        lines = [json.dumps(edit_json([value], [[e[0], [0, *e[1]], *([[0, *e[2]]] if e[0] in ("copy",
            "swap") else e[2:])] for e in json_edits(rng, value)])[0]
                            if index == at else value) for index, value in enumerate(values)]  # fmt: skip
        if rng.random() < 0.1:
            lines.insert(at, json.dumps(nasty(rng)))
        body = "\n".join(lines).encode()
    if rng.random() < 0.25:
        body = mangled(rng, body)
    if rng.random() < 0.03:
        body = rng.choice(
            (
                b"",
                b"[" * 20_000,
                b'{"a":' * 5000,
                b"\xff\xfea\0",
                b"\xef\xbb\xbf" + body,
                b"9" * 5000,
                b"{}\n" * 1000,
                b"null",
                b"[]",
                b"\0" * 100,
                b'{"text": ' + b"[" * 20_000,
            )
        )
    return name.encode() + b"\n" + body


def run(content: bytes, place: Path, base: Path) -> None:
    first, _, body = content.partition(b"\n")
    path = place / first.decode()
    path.write_bytes(body)
    for image in ("a.png", "b.png"):
        (place / image).write_bytes(b"\x89PNG")
    if path.stem == "labels":
        _labels(path)
    elif path.name == "captions.jsonl":
        from medge.export.source.corpus import read_captions

        texts, numbers = read_captions(path, [place / "a.png", place / "b.png"], [place])
        if (
            len(numbers) != 2
            or not all(-1 <= number < len(texts) for number in numbers)
            or not all(text.strip() for text in texts)
        ):
            raise WrongError(f"captions {texts} {numbers}"[:200])
        _written(texts, body)
    elif path.name in ("texts.jsonl", "examples.jsonl"):
        _examples(path, place, body)
    else:
        from medge.export.source.choices import read_choices

        for choice in read_choices(path):
            _written([choice.question, *choice.options])
            if not 0 <= choice.answer < len(choice.options) or not all(
                isinstance(option, str) for option in choice.options
            ):
                raise WrongError(f"a question {choice}"[:200])
            if not choice.question.strip() or len(set(choice.options)) < len(choice.options):
                raise WrongError(f"a question without words, or options that are the same: {choice}"[:300])
            _inside(choice.image, place)


def _labels(path: Path) -> None:
    from medge.runtime.encoder.labels import read_labels

    found = read_labels(path)
    for name, prompts in found.items():
        if not name.strip() or not prompts or not all(isinstance(prompt, str) and prompt.strip() for prompt in prompts):
            raise WrongError(f"a label {name!r} with prompts {prompts!r}"[:200])
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
            raise WrongError(f"a label with control characters: {name!r}"[:200])
        _written([name, *prompts])


def _examples(path: Path, place: Path, body: bytes) -> None:
    from medge.export.source.corpus import Answered, iterate_texts, read_examples

    found = list(iterate_texts([path])) if path.name == "texts.jsonl" else list(read_examples([path], images=True))
    for one in found:
        if isinstance(one, Answered):
            _written([one.question, one.answer], body)
            if not one.question.strip() or not one.answer.strip():
                raise WrongError(f"a question or an answer without words: {one}"[:200])
            _inside(one.image, place)
        else:
            _written([one], body)


def _written(texts: list[str], body: bytes = b"") -> None:
    """Texts can be encoded, as tokenizers will; and are what the file says, not what Python makes of a list or a number."""
    leaves = {leaf.strip() for line in body.decode("utf-8-sig", "replace").split("\n") for leaf in _leaves(line)}
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise WrongError(f"a text that is no Unicode: {text[:60]!r}") from error
        if body and text.strip() not in leaves:
            raise WrongError(f"a value that is no text was taken for one: {text[:60]!r}")


def _leaves(line: str) -> Iterator[str]:
    """The texts in a line of JSON."""
    try:
        waiting = [json.loads(line)]
    except (ValueError, RecursionError):
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | dict):
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _inside(image: Path | None, place: Path) -> None:
    if image is not None and "\0" in str(image):
        raise WrongError("an image whose name holds a zero byte")


KIND = Kind(
    make,
    run,
    suffix=".txt",
    modules=("medge.runtime.encoder.labels", "medge.export.source.corpus", "medge.export.source.choices"),
    batch=100,
)
