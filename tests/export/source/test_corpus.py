"""The one reader of JSON lines, and the corpora that are read with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medge.export.source.choices import read_choices
from medge.export.source.corpus import (
    Answered,
    Choice,
    iterate_texts,
    read_captions,
    read_corpus,
    read_examples,
)
from medge.quant.texts.prompts import medical_texts, mixed_texts
from medge.runtime.errors import CorpusError, ImageError

READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "texts": (lambda path: list(iterate_texts([path])), "'text' is missing"),
    "choices": (read_choices, "'options' is missing"),
    "examples": (lambda path: list(read_examples([path], images=False)), "'question' is missing"),
    "captions": (lambda path: read_captions(path, [], []), "'image' is missing"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_wrong_line_is_named_in_one_form_of_sentence(name: str, tmp_path: Path) -> None:
    read, missing = READERS[name]
    path = tmp_path / "x.jsonl"
    for line, reason in (("{", "Expecting property name"), ("[1]", "no JSON object"), ("{}", missing)):
        path.write_text(f"\n  \n{line}\n")
        with pytest.raises(CorpusError, match=re.escape(f"{path}, line 3: {reason}") + r".*; expected \{"):
            read(path)
    with pytest.raises(CorpusError, match="can't be read as text"):
        read(tmp_path / "gone.jsonl")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CorpusError, match="can't be read as text"):
        read(path)


def test_one_broken_film_does_not_cost_the_others(few_images: Path, tmp_path: Path) -> None:
    (tmp_path / "reports.txt").write_text("No effusion.")
    (tmp_path / "films").mkdir()
    for path in few_images.iterdir():
        (tmp_path / "films" / path.name).write_bytes(path.read_bytes())
    whole = read_corpus([tmp_path])
    (tmp_path / "films" / "broken.png").write_bytes(b"no film")
    corpus = read_corpus([tmp_path])
    assert len(corpus.images) == len(whole.images) > 1
    assert [Path(refused.image).name for refused in corpus.images.skipped] == ["broken.png"]
    assert corpus.texts == ["No effusion."]
    with pytest.raises(ImageError, match="no image could be read"):
        read_corpus([tmp_path / "reports.txt", tmp_path / "films" / "broken.png"])


def test_questions_with_options(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "a?", "options": ["x", "y"], "answer": 1, "image": "i.png"}\n\n')
    assert read_choices(path) == [Choice("a?", ("x", "y"), 1, tmp_path / "i.png")]
    path.write_text('{"question": "a?", "options": ["x", "y"], "answer": 2}')
    with pytest.raises(CorpusError, match='line 1: "answer" is no index'):
        read_choices(path)


def test_examples_are_texts_and_answered_questions(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A report.\nOf two lines.")
    (tmp_path / "b.jsonl").write_text(
        '{"text": "one\u2028line"}\n{"question": "q?", "answer": "a", "image": "i.png"}\n', encoding="utf-8"
    )
    files = [tmp_path / "a.txt", tmp_path / "b.jsonl"]
    assert list(read_examples(files, images=True)) == [
        "A report.\nOf two lines.", "one\u2028line", Answered("q?", "a", tmp_path / "i.png"),
    ]  # fmt: skip
    with pytest.raises(CorpusError, match="line 2: an image, but the model reads text only"):
        list(read_examples(files, images=False))


def test_captions_by_image(tmp_path: Path) -> None:
    images = [tmp_path / "a" / "1.png", tmp_path / "a" / "2.png", tmp_path / "a" / "3.png"]
    images[0].parent.mkdir()
    path = tmp_path / "c.jsonl"
    path.write_text('{"image": "3.png", "caption": "same"}\n{"image": "1.png", "caption": " same "}\n')
    texts, numbers = read_captions(path, images, [tmp_path / "a"])
    assert texts == ["same"]
    np.testing.assert_array_equal(numbers, [0, -1, 0])
    path.write_text('{"image": "4.png", "caption": "x"}')
    with pytest.raises(CorpusError, match="line 1: 4.png is not below a folder of --images"):
        read_captions(path, images, [tmp_path / "a"])


def test_corpus_of_texts_and_images(tmp_path: Path, few_images: Path) -> None:
    (tmp_path / "a.txt").write_text("A report.")
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    corpus = read_corpus([tmp_path, few_images])
    assert corpus.texts == ["A report.", "one", "two"]
    assert len(corpus.images) > 5
    assert read_corpus([]).texts == [*medical_texts(), *mixed_texts()]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(CorpusError, match="neither texts"):
        read_corpus([tmp_path / "nothing"])
    with pytest.raises(ImageError, match="No such file"):
        read_corpus([tmp_path / "gone.png"])


def test_questions_as_they_are_published(tmp_path: Path) -> None:
    medqa = tmp_path / "medqa.jsonl"
    options = {"A": "aspirin", "B": "rest"}
    lines = [{"question": "What helps?", "options": options, "answer": "rest", "answer_idx": "B"},
             {"question": "What helps?\nA) aspirin\nB) rest", "options": options, "answer": "A"}]  # fmt: skip
    medqa.write_text("\n".join(map(json.dumps, lines)))
    asked = "What helps?\nA) aspirin\nB) rest\nAnswer with the letter of the right option."
    assert read_choices(medqa) == [Choice(asked, ("A", "B"), 1), Choice(asked, ("A", "B"), 0)]

    pubmedqa = tmp_path / "ori_pqal.json"
    entry = {"QUESTION": "Does it?", "CONTEXTS": ["It may.", "It did."], "final_decision": "maybe"}
    pubmedqa.write_text(json.dumps({"1": entry}))
    expected = Choice("It may. It did.\nDoes it? Answer yes, no or maybe.", ("yes", "no", "maybe"), 2)
    assert read_choices(pubmedqa) == [expected]

    vqa_rad = tmp_path / "qa.json"
    closed = {"image_name": "a.jpg", "question": "Is it?", "answer": "No "}
    vqa_rad.write_text(json.dumps([closed, {**closed, "answer": "the left lung"}]))
    with pytest.raises(CorpusError, match="a.jpg is not beside the file"):
        read_choices(vqa_rad)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    assert read_choices(vqa_rad) == [
        Choice("Is it? Answer yes or no.", ("yes", "no"), 1, tmp_path / "images" / "a.jpg")
    ]

    for text in ("[]", "{}", "[1]", '{"1": {}}', '"x"', "no json"):
        vqa_rad.write_text(text)
        with pytest.raises(CorpusError, match="expected JSON lines of"):
            read_choices(vqa_rad)


def test_the_shared_questions_are_read(shared: Path) -> None:
    for name, count in (("pubmedqa/pqal.json", 800), ("medqa/test.jsonl", 1000)):
        assert len(read_choices(shared / name)) == count


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("texts", '{"text": null}', '"text" is no text'),
        ("texts", '{"text": NaN}', "NaN is no number of JSON"),
        ("texts", '{"text": "\\ud800"}', "half of a character"),
        ("texts", '{"text": ' + "[" * 3000, "stand too deep in one another"),
        ("examples", '{"question": " ", "answer": "x"}', '"question" is empty'),
        ("examples", '{"question": "x", "answer": ["y"]}', '"answer" is no text'),
        ("captions", '{"image": "a\\u0000b", "caption": "x"}', "a\\x00b is not below a folder"),
        ("choices", '{"question": "x", "options": ["a", "a"], "answer": 0}', "two options are the same"),
        ("choices", '{"question": "x", "options": ["a", null], "answer": 0}', "an option is no text"),
        ("choices", '{"question": "x", "options": "ab", "answer": 0}', '"options" is no list'),
        ("choices", '{"question": "x", "options": ["a", "b"], "answer": true}', '"answer" is no index'),
        ("choices", '{"question": "x", "options": ["a", "b"], "answer": 1e999}', "the number 1e999 is out of range"),
        ("choices", '{"question": "x", "options": {"A": "a", "B": {}}, "answer": "A"}', "an option is no text"),
    ],
)
def test_what_is_no_text_is_not_made_one(name: str, line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(line)
    with pytest.raises(CorpusError, match=re.escape(f"{path}, line 1: ") + ".*" + re.escape(reason)):
        READERS[name][0](path)


def test_options_may_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"question": "How many?", "options": [1, 2.5, "none"], "answer": 1}')
    assert read_choices(path) == [Choice("How many?", ("1", "2.5", "none"), 1)]


@pytest.mark.parametrize("body", ["[1, 2]", '{"a": 1}', "5", "null"])
def test_questions_of_another_form_are_refused_in_plain_words(body: str, tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    path.write_text(body)
    with pytest.raises(CorpusError, match="expected JSON lines of") as refused:
        read_choices(path)
    assert "subscriptable" not in str(refused.value)
