"""Examples that a teacher makes itself, from a bundle's answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import medge
from PIL import Image

from medge.export.distill.answers import ABOUT_AN_IMAGE, STEP_BY_STEP, Question, left_out, read_questions
from medge.export.source.corpus import Answered, read_examples
from medge.runtime.errors import CorpusError
from medge.runtime.generator.conversation import Answer, Stop


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A folder with questions in both forms, one of them twice, an image, a copy of it, and one that is none."""
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(tmp_path / "grey.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "grey.png").read_bytes())
    (tmp_path / "broken.png").write_bytes(b"nothing")
    (tmp_path / "questions.txt").write_text("Name a bone.\n\nName  a BONE.\nWhat is a lung?\n")
    lines = [{"question": "What is a lung?"}, {"question": "What is it?", "image": "grey.png", "answer": "not looked at"},
             {"question": "What is it?", "image": "copy.png"}, {"question": "What is it?", "image": "broken.png"}]  # fmt: skip
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_a_question_about_the_same_picture_is_asked_once(asked: Path) -> None:
    found = read_questions([asked / "questions.txt", asked / "more.jsonl"], [asked / "grey.png", asked / "copy.png"])
    assert [(one.text, one.image.name if one.image else None) for one in found.values()] == [
        ("Name a bone.", None), ("What is a lung?", None), ("What is it?", "grey.png"), ("What is it?", "broken.png"),
        (ABOUT_AN_IMAGE, "grey.png"),
    ]  # fmt: skip
    first = next(iter(read_questions([asked / "questions.txt"], [], step_by_step=True).values()))
    assert first.text == f"Name a bone.\n{STEP_BY_STEP}"
    with pytest.raises(CorpusError, match='"question" is missing|question'):
        (asked / "bad.jsonl").write_text('{"text": "no question"}\n')
        read_questions([asked / "bad.jsonl"], [])
    with pytest.raises(CorpusError, match="no question in there"):
        (asked / "empty.txt").write_text("\n \n")
        read_questions([asked / "empty.txt"], [])


@pytest.mark.parametrize(
    ("text", "stop", "said"),
    [
        ("The femur is a bone of the leg.", "end", None),
        ("The femur is a bone of the", "limit", "cut off at the limit of tokens"),
        (" ... ", "end", "next to nothing"),
        ("Yes.", "end", "next to nothing"),
        ("the lung is clear and quiet and " * 5, "end", "repeats itself"),
        ("the lung is clear and quiet and " * 2, "end", None),
    ],
)
def test_what_nothing_should_be_learned_from_is_left_out(text: str, stop: Stop, said: str | None) -> None:
    assert left_out(Answer(text, "", stop, 5, 0, 9)) == said


def test_the_key_follows_the_picture_and_not_its_name(asked: Path) -> None:
    keys = {
        name: Question("What is it?", asked / name, "more.jsonl").key()
        for name in ("grey.png", "copy.png", "broken.png")
    }
    assert keys["grey.png"] == keys["copy.png"] != keys["broken.png"]


def test_answers_are_examples_and_an_interrupted_run_goes_on(
    reader_bundles: Callable[[str], Path], asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, out = reader_bundles("q8_0"), asked / "made" / "answers.jsonl"
    out.parent.mkdir()
    (asked / "questions.txt").write_text("Name a bone.\nWhat is a lung?\n")
    words = ["distill", "answers", reader, "--questions", asked / "questions.txt", "--questions", asked / "more.jsonl",
             "--out", out, "--limit", 24, "--context", 512, "--allow-failed-parity", "--json"]  # fmt: skip
    told = json.loads(medge(*words, code=3).stdout)
    assert told["examples"] + told["examples_left_out"] == 3
    assert [Path(one["image"]).name for one in told["failed"]] == ["broken.png"]
    rest = out.with_name("answers.left-out.jsonl")
    made, others = ([json.loads(line) for line in path.read_text().splitlines()] for path in (out, rest))
    assert all(row["left_out"] for row in others)
    assert all(row["teacher"] == reader.name and row["source"] for row in made)

    # They are what distillation reads, images where they lie.
    examples = list(read_examples([out], images=True))
    assert len(examples) == len(made) == told["examples"] > 0
    assert all(isinstance(one, Answered) and one.answer for one in examples)
    assert [one.image for one in examples if isinstance(one, Answered) and one.image] == [asked / "grey.png"]

    # Cut off behind the first, it gives the same; what stands there is not asked again.
    whole = out.read_bytes()
    out.write_bytes(whole.splitlines(keepends=True)[0])
    medge(*words, code=3)
    assert sorted(out.read_bytes().splitlines()) == sorted(whole.splitlines())
    # Other settings are another file's.
    assert "holds other results" in medge(*words[:-1], "--temperature", 0.5, code=1).stderr
