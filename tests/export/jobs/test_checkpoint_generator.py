"""`medge evaluate` of a language model's checkpoint: in PyTorch, as its bundle is asked, and against that.

The tiny random model babbles: what is tested is that both are given the same prompts and images, and choose alike.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")

from command_line import medge
from PIL import Image

import medge as facade
from medge.export.families.generator_chat import GeneratorChat
from medge.export.families.generator_reference import GeneratorReference
from medge.runtime.errors import ContextError, GeneratorError
from medge.runtime.generator.answering import THOUGHT, THOUGHT_END
from medge.runtime.generator.conversation import Sampling, Turn, user
from medge.runtime.generator.generator import Generator
from medge.runtime.generator.prompt import length
from medge.runtime.golden.phantom import phantom

TASKS = Path(__file__).parents[3] / "runtime" / "evaluation" / "tasks"


@pytest.fixture(scope="module")
def reference(tiny_gemma: Path) -> GeneratorReference:
    return GeneratorReference(tiny_gemma)


@pytest.fixture(scope="module")
def bundle(tiny_reader: Path) -> Iterator[Generator]:
    with facade.load_generator(tiny_reader, allow_failed_parity=True, context=1024) as generator:
        yield generator


TURNS: list[list[Turn]] = [
    [user("Which bone is the longest?")],
    [user(phantom(), "Is there an effusion?")],
    [user("First ", phantom(), " then ", phantom()[::-1], ": what changed?")],
]


@pytest.mark.parametrize("turns", TURNS, ids=["text", "image", "two images"])
def test_answers_are_the_likeliest_token_each_time(
    reference: GeneratorReference, bundle: Generator, turns: Sequence[Turn]
) -> None:
    """Against the class that parity measures by, without a cache, on the prompts and images of the bundle."""
    chat = GeneratorChat(reference, 1024, "cpu")
    items = bundle.encode(turns)
    row = reference.logits(items, len(items) - 1)[-1]
    np.testing.assert_allclose(chat.next_logits(turns), row, atol=1e-4)
    said = chat.chat(turns, Sampling(limit=6))
    tokens: list[int] = []
    while len(tokens) < 6:
        best = int(reference.logits([*items, *tokens], len(items) + len(tokens) - 1)[-1].argmax())
        if best in reference.stop_ids:
            break
        tokens.append(best)
    assert (said.tokens, said.prompt_tokens) == (len(tokens), length(items))
    assert said.text == b"".join(map(bundle.engine.piece, tokens)).decode("utf-8", "replace").strip()
    assert said.stop == ("limit" if len(tokens) == 6 else "end")


def test_room_and_traces_are_as_of_a_bundle(reference: GeneratorReference, monkeypatch: pytest.MonkeyPatch) -> None:
    [turns, *_] = TURNS
    prompt = GeneratorChat(reference, 1024, "cpu").chat(turns, Sampling(limit=1)).prompt_tokens
    with pytest.raises(ContextError, match=f"takes {prompt} tokens, and the context of {prompt} has no room"):
        GeneratorChat(reference, prompt, "cpu").chat(turns, Sampling(limit=1))
    marks = reference.processor.tokenizer.convert_tokens_to_ids([THOUGHT, THOUGHT_END])
    letters = [GeneratorChat(reference, 1024, "cpu").letters(["A", "B"])[n][0] for n in (0, 1)]
    short = GeneratorChat(reference, prompt + 6, "cpu")
    made = [marks[0], letters[0], marks[1], letters[1], reference.stop_ids[0]]
    monkeypatch.setattr(short, "_generate", lambda inputs, most: made[:most])
    answer = short.chat(turns, Sampling(limit=8))
    assert (answer.thought, answer.text, answer.stop, answer.tokens) == ("A", "B", "end", 4)
    monkeypatch.setattr(short, "_generate", lambda inputs, most: [letters[0]] * most)
    answer = short.chat(turns, Sampling(limit=8))
    assert (answer.text, answer.stop, answer.tokens) == ("AAAAAA", "context", 6)
    assert short.chat(turns, Sampling(limit=3)).stop == "limit"


def test_a_text_model_is_given_no_image(few_tokens: Path, tmp_path: Path) -> None:
    from gemma_checkpoints import write_tiny_gemma

    write_tiny_gemma(tmp_path / "text", few_tokens, sees=False)
    chat = GeneratorChat(GeneratorReference(tmp_path / "text"), 512, "cpu")
    assert chat.chat([user("Name a bone.")], Sampling(limit=3)).tokens <= 3
    with pytest.raises(GeneratorError, match="reads text only"):
        chat.chat([user(phantom(), "What is this?")], Sampling(limit=3))


def rows_of(place: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((place / "items.csv").open(newline="")))


def write_questions(folder: Path) -> None:
    folder.mkdir()
    options = {"A": "the femur", "B": "the tibia", "C": "the ulna", "D": "the skull"}
    lines = [
        {"question": f"Which bone is number {n} of a list?", "options": options, "answer_idx": "ABCD"[n % 4]}
        for n in range(6)
    ]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_a_bundle_is_evaluated_against_its_checkpoint(tiny_gemma: Path, tiny_reader: Path, tmp_path: Path) -> None:
    write_questions(tmp_path / "data")
    words = ("--data", tmp_path / "data", "--items", "csv", "--context", "1024", "--allow-failed-parity", "--task")
    run = tmp_path / "runs" / "bundle"
    asked = ("evaluate", tiny_reader, "--against", tiny_gemma, *words, "medqa", "--method", "likelihood", "--out", run)
    facts = json.loads(medge(*asked, "--json").stdout)
    other = Path(facts["results"][0]["out"])
    ours, theirs = rows_of(run), rows_of(other)
    assert len(ours) == len(theirs) == 6
    for one, two in zip(ours, theirs, strict=True):
        assert one["answer"] == two["answer"]
        scores = [[float(row[f"score {letter}"]) for letter in "ABCD"] for row in (one, two)]
        assert scores[0] == pytest.approx(scores[1], abs=0.02)  # halves in place of singles
    assert len({row["score A"] for row in theirs}) == 6  # not all the same
    against = facts["results"][1]["against_first"]
    assert against["answers"] == {
        "count": 6, "right_to_wrong": 0, "wrong_to_right": 0, "wrong_to_other_wrong": 0, "p": 1
    }  # fmt: skip
    told = json.loads((other / "metrics.json").read_text())
    assert told["model"]["parity"] == "original"
    assert told["model"]["recipes"] == {"language": "fp32 in PyTorch", "projector": "fp32 in PyTorch"}
    assert told["model"]["bytes"] == sum(path.stat().st_size for path in tiny_gemma.glob("*.safetensors"))
    assert told["bundle"] == tiny_gemma.name
    # Step by step, interrupted by --limit and gone on with.
    own = tmp_path / "brief.toml"
    own.write_text(_brief("medqa", 8))
    steps = ("evaluate", tiny_gemma, *words, own, "--out", tmp_path / "steps")
    medge(*steps, "--limit", "2")
    assert "6 questions, 2 done before" in medge(*steps).stderr
    assert all(float(row["tokens"]) <= 8 for row in rows_of(tmp_path / "steps"))
    changed = tmp_path / "changed" / tiny_gemma.name
    shutil.copytree(tiny_gemma, changed)
    config = json.loads((changed / "tokenizer_config.json").read_text())
    (changed / "tokenizer_config.json").write_text(json.dumps({**config, "another": 1}))
    assert "holds other results" in medge("evaluate", changed, *steps[2:], code=1).stderr


def _brief(task: str, limit: int) -> str:
    lines = [line for line in (TASKS / f"{task}.toml").read_text().splitlines() if not line.startswith("limit")]
    return "\n".join([f"limit = {limit}", *lines])


def test_questions_about_images_are_asked(tiny_gemma: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    entries = []
    for number in range(3):
        Image.fromarray(np.full((40, 30), 60 * number, np.uint8)).save(data / f"{number}.png")
        entries.append({"qid": number, "image_name": f"{number}.png", "question": "Is it dark?", "answer": "yes",
                        "answer_type": "CLOSED", "phrase_type": "test_freeform", "image_organ": "CHEST"})  # fmt: skip
    (data / "VQA_RAD Dataset Public.json").write_text(json.dumps(entries))
    own = tmp_path / "brief.toml"
    own.write_text(_brief("vqa-rad", 5))
    done = medge(
        "evaluate", tiny_gemma, "--task", own, "--data", data, "--items", "csv", "--out", tmp_path / "run", "--json"
    )
    facts = json.loads(done.stdout)
    assert facts["items"]["evaluated"] == 3
    assert {"token_f1", "closed_accuracy"} <= facts["figures"].keys()
    assert all(row["stop"] in ("end", "limit") for row in rows_of(tmp_path / "run"))


def test_what_a_checkpoint_can_not_do_is_refused(tiny_gemma: Path, shallow: Path, tmp_path: Path) -> None:
    words = ("evaluate", tiny_gemma, "--data", tmp_path, "--out", tmp_path / "run")
    records = medge(*words, "--task", "fhir-questions", code=1).stderr
    assert "forced into JSON by llama.cpp, which runs no checkpoint: export it with 'medge export medgemma" in records
    assert "has no prompt for one" in medge(*words, "--task", "ham10000", code=1).stderr
    assert "leave --profile out" in medge(*words, "--task", "medqa", "--profile", "eval-tf", code=1).stderr
    different = medge(*words, "--task", "medqa", "--against", shallow, code=1).stderr
    assert "are of different kinds (generator and encoder)" in different
    assert not (tmp_path / "run").exists()
