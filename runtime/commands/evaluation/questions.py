"""Evaluate a language model on questions with options: they are put one by one, then the figures are made of what was written."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .... import __version__
from ...bundles.atomic import replace_text
from ...bundles.manifest import MANIFEST, sha256_file, sha256_json
from ...console.layouts import TABLES, Columns, Row, check_ending, read_rows
from ...console.result_file import ResultFile
from ...console.terminal import SCHEMA_VERSION, err, out, print_json, progress
from ...errors import BundleError, ContextError
from ...evaluation.answers import figures_of_answers, letter_of, likelihoods, prompt_of
from ...evaluation.items import Question, drawn, hidden
from ...evaluation.layouts.choices import LETTERS
from ...evaluation.rows import SCORE
from ...evaluation.task import NamedQuestions
from ...generator.conversation import Sampling, user
from ...generator.generator import Generator
from .pictures import METRICS, interval_text, items_file, number_text

QuestionMethod = Literal["step-by-step", "likelihood"]


@dataclass(frozen=True)
class AskedQuestions:
    """What a user asked for.

    Attributes:
        named: the task.
        data: where its data lie.
        place: the folder to write.
        method: how questions are put.
        form: of the file of items: "parquet", "csv", "jsonl", or None.
        limit: how many questions; all where None.
        seed: of the draw.
        no_names: whether names are hashed.
        force: begin anew.
    """

    named: NamedQuestions
    data: Path
    place: Path
    method: QuestionMethod
    form: str | None
    limit: int | None
    seed: int
    no_names: bool
    force: bool

    @property
    def template(self) -> str:
        """The prompt of the method."""
        task = self.named.task
        return task.step_by_step if self.method == "step-by-step" else task.directly


def evaluate_questions(generator: Generator, asked: AskedQuestions, *, as_json: bool) -> None:
    """Put the questions, write items and metrics, and tell them.

    Raises:
        TaskError: the folder does not hold the task's questions.
        StorageError: the folder of results holds those of another question.
        BundleError: the model has no tokens for the options' letters.
    """
    questions = asked.named.layout.read(asked.data, asked.named.name)
    chosen = drawn(questions, asked.limit, asked.seed)
    if asked.no_names:
        chosen = [replace(question, key=hidden(question.key)) for question in chosen]
    file = items_file(asked.place, asked.form)
    check_ending(file, TABLES)
    letters = LETTERS[: max(len(question.options) for question in questions)]
    columns = _columns(generator, asked, letters)
    before = _ask(generator, asked, chosen, file, columns, letters)
    keys = {question.key for question in chosen}  # a file may hold more: rows of a run with a higher limit
    rows = [row for row in read_rows(file, columns) if row["id"] in keys]
    facts = _facts(generator, asked, len(questions), rows)
    text = json.dumps({"schema_version": SCHEMA_VERSION, **facts}, indent=2, ensure_ascii=False, allow_nan=False)
    replace_text(asked.place / METRICS, text + "\n")
    if before:
        err.print(f"medge: {len(rows)} questions, {before} done before", soft_wrap=True)
    if as_json:
        print_json({**facts, "out": str(asked.place)})
    else:
        _tell(facts, asked.place)


def _columns(generator: Generator, asked: AskedQuestions, letters: str) -> Columns:
    """Of the file of items; two files with the same `made_with` answer the same question."""
    question = [sha256_file(generator.bundle.folder / MANIFEST), asked.method, asked.template, asked.named.task.limit]
    same = {"bundle": generator.manifest.name, "task": asked.named.name, "made_with": sha256_json(question)[:16]}
    scores = [f"{SCORE}{letter}" for letter in letters] if asked.method == "likelihood" else []
    return Columns("id", same, ("label", "answer", "subject", "stop", "text"), (*scores, "tokens", "seconds"))


def _ask(
    generator: Generator, asked: AskedQuestions, chosen: Sequence[Question], file: Path, columns: Columns, letters: str
) -> int:
    """Put what has no row yet, and write its row; returns how many had one."""
    tokens = letter_tokens(generator, letters) if asked.method == "likelihood" else []
    with ResultFile(file, columns, force=asked.force) as written, progress() as advance:
        waiting = [question for question in chosen if question.key not in written.done]
        for number, question in enumerate(waiting, 1):
            begun = time.perf_counter()
            try:
                found = (
                    _by_likelihood(generator, asked, question, tokens)
                    if tokens
                    else _step_by_step(generator, asked, question)
                )
            except ContextError:  # it is wrong, and the row says why
                found = {"answer": "", "stop": "too long", "text": "", "tokens": 0}
            seconds = round(time.perf_counter() - begun, 4)
            label = LETTERS[question.right]
            written.add(
                {
                    "id": question.key,
                    **columns.same,
                    "label": label,
                    "subject": question.subject,
                    **found,
                    "seconds": seconds,
                }
            )
            advance("questions", number, len(waiting))
        return len(chosen) - len(waiting)


def _put(generator: Generator, asked: AskedQuestions, question: Question, tokens: Sequence[int]) -> Row:
    if tokens:
        return _by_likelihood(generator, asked, question, tokens)
    return _step_by_step(generator, asked, question)


def _step_by_step(generator: Generator, asked: AskedQuestions, question: Question) -> Row:
    said = generator.chat([user(prompt_of(asked.template, question))], Sampling(limit=asked.named.task.limit))
    letter = letter_of(said.text, len(question.options))
    return {"answer": letter, "stop": said.stop, "text": said.text, "tokens": said.tokens}


def _by_likelihood(generator: Generator, asked: AskedQuestions, question: Question, tokens: Sequence[int]) -> Row:
    engine = generator.engine
    engine.prefill(generator.encode([user(prompt_of(asked.template, question))]))
    scores = likelihoods(engine.next_logits(), tokens[: len(question.options)])
    best = LETTERS[max(range(len(scores)), key=scores.__getitem__)]
    shares = {f"{SCORE}{letter}": round(score, 6) for letter, score in zip(LETTERS, scores, strict=False)}
    return {"answer": best, "stop": "", "text": "", **shares, "tokens": 0}


def letter_tokens(generator: Generator, letters: str) -> list[int]:
    """The token of each letter.

    Raises:
        BundleError: a letter is not one token.
    """
    found = [generator.engine.tokenize(letter, special=False) for letter in letters]
    if any(len(tokens) != 1 for tokens in found):
        raise BundleError(f"{generator.bundle.folder}: its tokenizer cuts letters apart; use --method step-by-step")
    return [tokens[0] for tokens in found]


def _facts(generator: Generator, asked: AskedQuestions, count: int, rows: Sequence[Row]) -> dict[str, Any]:
    """What `metrics.json` holds."""
    task, manifest = asked.named.task, generator.manifest
    return {
        "bundle": manifest.name, "medge_version": __version__,
        "model": {
            "parity": manifest.status, "recipes": {tower: facts.recipe for tower, facts in manifest.towers.items()},
            "bytes": sum(map(generator.bundle.tower_bytes, manifest.towers.values())),
        },
        "task": {
            "name": asked.named.name, "title": task.title, "form": task.form, "source": task.source, "method": asked.method,
            "protocol": task.protocol, "absent": task.absent, "prompts_from": task.prompts_from, "prompt": asked.template,
            "limit": task.limit,
        },
        "limit": asked.limit, "seed": asked.seed, "no_names": asked.no_names,
        "items": {
            "evaluated": len(rows), "in_the_data": count,
            "cut_off": sum(row["stop"] == "limit" for row in rows), "too_long": sum(row["stop"] == "too long" for row in rows),
        },
        "seconds_an_item": sum(float(row["seconds"]) for row in rows) / len(rows),
        **figures_of_answers(rows),
    }  # fmt: skip


def _tell(facts: dict[str, Any], place: Path) -> None:
    """Print the accuracy, in all and by subject."""
    from rich.table import Table

    title = f"{facts['task']['name']}, {facts['task']['method']}: {facts['items']['evaluated']} questions"
    table = Table("figure", "value", "95% interval", title=title)
    for name, figure in facts["figures"].items():
        table.add_row(name, number_text(figure["value"]), interval_text(figure))
    for subject, found in facts["subgroups"].get("subject", {}).items():
        figure = found["figures"]["accuracy"]
        table.add_row(f"{subject} ({found['count']})", number_text(figure["value"]), interval_text(figure))
    out.print(table)
    out.print(f"items and {METRICS} in {place}", soft_wrap=True)
