"""Evaluate a language model on questions: they are put one by one, then the figures are made of what was written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ...console.image_run import end_with
from ...console.layouts import TABLES, Columns, Row, check_ending
from ...console.result_file import ResultFile
from ...console.terminal import err, out, progress, warn
from ...errors import ContextError, ImageError
from ...evaluation.answers import prompt_of
from ...evaluation.items import ImageQuestion, Question, drawn, hidden
from ...evaluation.task import NamedQuestions
from ...generator.generator import Generator
from ...pictures.images import Refused
from .given import Finished, Given
from .told import add_figure, figure_table
from .ways import Likelihood, ShortAnswer, StepByStep, Way, label_of
from .written import METRICS, facts_of, items_file, rows_of, same_of, seconds_of, write_facts

QuestionMethod = Literal["step-by-step", "likelihood", "short-answer"]


@dataclass(frozen=True)
class AskedQuestions(Given):
    """What a user asked for.

    Attributes:
        named: the task.
        method: how questions are put.
    """

    named: NamedQuestions
    method: QuestionMethod

    @property
    def template(self) -> str:
        """The prompt of the method."""
        return self.named.task.prompts[self.method]


def evaluate_questions(generator: Generator, asked: AskedQuestions) -> Finished:
    """Put the questions, and write items and metrics.

    Raises:
        TaskError: the folder does not hold the task's questions.
        StorageError: the folder of results holds those of another question.
        BundleError: the model has no tokens for the options' letters.
    """
    questions = asked.named.layout.read(asked.data, asked.named.name)
    chosen = drawn(questions, asked.limit, asked.seed)
    if asked.no_names:
        chosen = [_without_names(question) for question in chosen]
    file = items_file(asked.place, asked.form)
    check_ending(file, TABLES)
    way = _way(generator, asked, questions)
    columns = _columns(generator, asked, way)
    before, failed = _ask(way, asked, chosen, file, columns)
    rows = rows_of(file, columns, (question.key for question in chosen))
    facts = _facts(generator, asked, len(questions), rows, way, scored=len(chosen) - before - len(failed))
    write_facts(asked.place / METRICS, facts)
    if before:
        err.print(f"medge: {len(rows)} questions, {before} done before", soft_wrap=True)
    return Finished(
        asked.place, facts, {"failed": [asdict(one) for one in failed]}, lambda: _tell(facts, asked.place),
        lambda: end_with(failed, done=len(rows)), rows, {question.key: _shown(question) for question in chosen},
    )  # fmt: skip


def _without_names(question: Question | ImageQuestion) -> Question | ImageQuestion:
    if isinstance(question, ImageQuestion):
        return replace(question, key=hidden(question.key), image=hidden(question.image))
    return replace(question, key=hidden(question.key))


def _shown(question: Question | ImageQuestion) -> str:
    """A question as a page shows it."""
    return question.text if isinstance(question, ImageQuestion) else prompt_of("{question}\n{options}", question)


def _way(generator: Generator, asked: AskedQuestions, questions: Sequence[Question | ImageQuestion]) -> Way:
    if asked.method == "step-by-step":
        return StepByStep(generator, asked.template, asked.named.task.limit)
    if asked.method == "short-answer":
        return ShortAnswer(generator, asked.template, asked.named.task.limit)
    return Likelihood(
        generator, asked.template, max(len(one.options) for one in questions if isinstance(one, Question))
    )


def _columns(generator: Generator, asked: AskedQuestions, way: Way) -> Columns:
    """Of the file of items."""
    same = same_of(generator.bundle, asked.named, asked.method, asked.template, asked.named.task.limit)
    texts = ("label", "answer", "subject", "stop", "text", *way.texts)
    return Columns("id", same, texts, (*way.numbers, "tokens", "seconds"))


def _ask(
    way: Way, asked: AskedQuestions, chosen: Sequence[Question | ImageQuestion], file: Path, columns: Columns
) -> tuple[int, list[Refused]]:
    """Put what has no row yet, and write its row; returns how many had one, and those whose image can't be read."""
    failed: list[Refused] = []
    with ResultFile(file, columns, force=asked.force) as written, progress() as advance:
        waiting = [question for question in chosen if question.key not in written.done]
        for number, question in enumerate(waiting, 1):
            begun = time.perf_counter()
            row: Row = {
                "id": question.key, **columns.same, "label": label_of(question), "subject": question.subject,
                "answer": "", "stop": "", "text": "", "tokens": 0,
            }  # fmt: skip
            try:
                row |= way.put(question)
            except ContextError:  # it is wrong, and the row says why
                row |= _too_long(question)
            except ImageError as error:
                reason = f"{question.key}: its image can't be read" if asked.no_names else f"{question.key}: {error}"
                failed.append(Refused(question.key, reason))
                warn(reason)
                continue
            written.add({**row, "seconds": round(time.perf_counter() - begun, 4)})
            advance("questions", number, len(waiting))
        return len(chosen) - len(waiting), failed


def _too_long(question: Question | ImageQuestion) -> Row:
    row: Row = {"stop": "too long"}
    if isinstance(question, ImageQuestion):
        row |= {"image": question.image, "f1": 0.0, "right": 0 if question.closed else None}
    return row


def _facts(
    generator: Generator, asked: AskedQuestions, count: int, rows: Sequence[Row], way: Way, *, scored: int
) -> dict[str, Any]:  # fmt: skip
    """What `metrics.json` holds; without figures where nothing could be asked."""
    task = asked.named.task
    facts = facts_of(generator.bundle, asked, asked.named, asked.method, scored=scored)
    facts["task"] |= {"prompts_from": task.prompts_from, "prompt": asked.template, "limit": task.limit}
    facts["items"] = {
        "evaluated": len(rows), "in_the_data": count,
        "cut_off": sum(row["stop"] == "limit" for row in rows), "too_long": sum(row["stop"] == "too long" for row in rows),
    }  # fmt: skip
    return facts | seconds_of(rows) | (way.figures(rows) if rows else {})


def _tell(facts: dict[str, Any], place: Path) -> None:
    """Print the accuracy, in all and by subject."""
    title = f"{facts['task']['name']}, {facts['task']['method']}: {facts['items']['evaluated']} questions"
    table = figure_table(title, facts["figures"])
    for subject, found in facts["subgroups"].get("subject", {}).items():
        figure = next(iter(found["figures"].values()))  # accuracy, or token F1
        add_figure(table, f"{subject} ({found['count']})", figure)
    out.print(table)
    out.print(f"items and {METRICS} in {place}", soft_wrap=True)
