"""Evaluate a language model on questions: they are put one by one, then the figures are made of what was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ....console.image_run import end_with
from ....console.layouts import TABLES, Row, check_ending
from ....console.terminal import err, out, warn
from ....evaluation.answers.letters import prompt_of
from ....evaluation.items import ImageQuestion, Posed, Question, RecordQuestion, ReportItem, drawn, hidden
from ....evaluation.readings.reading import Reader, told_of
from ....evaluation.readings.table import READINGS
from ....evaluation.task import NamedQuestions
from ..given import Finished, Given
from ..subject import LanguageModel
from ..told import add_figure, figure_table
from ..written import METRICS, facts_of, items_file, rows_of, same_of, seconds_of, write_facts
from .put import columns_of, counts_of, put_all
from .readings import read_all
from .ways import Likelihood, OverRecord, ShortAnswer, StepByStep, Way, WriteReport

QuestionMethod = Literal["step-by-step", "likelihood", "short-answer", "record", "report"]


@dataclass(frozen=True)
class AskedQuestions(Given):
    """What a user asked for.

    Attributes:
        named: the task.
        method: how questions are put.
        readers: models that read the reports which were written.
    """

    named: NamedQuestions
    method: QuestionMethod
    readers: tuple[Reader, ...] = ()

    @property
    def template(self) -> str:
        """The prompt of the method."""
        return self.named.task.prompts[self.method]


def evaluate_questions(model: LanguageModel, asked: AskedQuestions) -> Finished:
    """Put the questions, and write items and metrics.

    Raises:
        TaskError: the folder does not hold the task's questions.
        StorageError: the folder of results holds those of another question.
        BundleError: the model has no tokens for the options' letters.
        RecordError: a record that is asked about can't be read.
        TaskError: the model can't be asked in this way.
        MissingExtraError: what compares reports is not installed.
        CheckpointError: a model that reads reports can't be read.
    """
    found = asked.named.layout.read(asked.data, asked.named.name)
    for why, count in found.left_out.items():
        warn(f"{count} entries of the data are left out: {why}")
    questions = found.questions
    chosen = drawn(questions, asked.limit, asked.seed)
    if asked.no_names:
        chosen = [_without_names(question) for question in chosen]
    file = items_file(asked.place, asked.form)
    check_ending(file, TABLES)
    way = _way(model, asked, questions)
    same = same_of(model.told, asked.named, asked.method, asked.template, asked.named.task.limit)
    columns = columns_of(way, same)
    before, failed = put_all(way, asked, chosen, file, columns)
    rows = rows_of(file, columns, (question.key for question in chosen))
    facts = _facts(model, asked, rows, way, scored=len(chosen) - before - len(failed))
    facts["items"] |= {"in_the_data": len(questions), "left_out": dict(found.left_out)}
    for reader in asked.readers if rows else ():  # after the memory that the model took was looked at
        _add_reading(facts, reader, read_all(reader, rows, file, force=asked.force))
    write_facts(asked.place / METRICS, facts)
    if before:
        err.print(f"medge: {len(rows)} questions, {before} done before", soft_wrap=True)
    return Finished(
        asked.place, facts, {"failed": [asdict(one) for one in failed]}, lambda: _tell(facts, asked),
        lambda: end_with(failed, done=len(rows)), rows, {question.key: _shown(question) for question in chosen},
    )  # fmt: skip


def _without_names(question: Posed) -> Posed:
    match question:
        case ImageQuestion():
            return replace(question, key=hidden(question.key), image=hidden(question.image))
        case RecordQuestion():
            return replace(question, key=hidden(question.key), group=hidden(question.group))
        case ReportItem():
            group = hidden(question.group) if question.group else ""
            return replace(question, key=hidden(question.key), image=hidden(question.image), group=group)
        case _:
            return replace(question, key=hidden(question.key))


def _shown(question: Posed) -> str:
    """A question as a page shows it."""
    match question:
        case Question():
            return prompt_of("{question}\n{options}", question)
        case ReportItem():
            return "the report of an image"
        case _:
            return question.text


def _way(model: LanguageModel, asked: AskedQuestions, questions: Sequence[Posed]) -> Way:
    limit = asked.named.task.limit
    match asked.method:
        case "step-by-step":
            return StepByStep(model, asked.template, limit)
        case "short-answer":
            return ShortAnswer(model, asked.template, limit)
        case "record":
            records = (one.record for one in questions if isinstance(one, RecordQuestion))
            return OverRecord(model, asked.template, limit, records)
        case "report":
            return WriteReport(model, asked.template, limit)
        case "likelihood":
            most = max(len(one.options) for one in questions if isinstance(one, Question))
            return Likelihood(model, asked.template, most)


def _facts(
    model: LanguageModel, asked: AskedQuestions, rows: Sequence[Row], way: Way, *, scored: int
) -> dict[str, Any]:  # fmt: skip
    """What `metrics.json` holds; without figures where nothing could be asked."""
    task = asked.named.task
    facts = facts_of(model.told, asked, asked.named, asked.method, scored=scored)
    facts["task"] |= {"prompts_from": task.prompts_from, "prompt": asked.template, "limit": task.limit}
    facts["items"] = counts_of(rows)
    return facts | seconds_of(rows) | (way.figures(rows) if rows else {})


def _add_reading(facts: dict[str, Any], reader: Reader, rows: Sequence[Row]) -> None:
    """Put what a reader has found beside the other figures."""
    reading = READINGS[reader.name]
    told = told_of(reading, rows)
    facts["figures"] |= told["figures"]
    found = {"made_with": reader.identity[:16], "protocol": reading.protocol, "labels": told["labels"]}
    facts.setdefault("readers", {})[reader.name] = found


def _tell(facts: dict[str, Any], asked: AskedQuestions) -> None:
    """Print the figures, and the first of them by subject or kind of answer."""
    title = f"{facts['task']['name']}, {facts['task']['method']}: {facts['items']['evaluated']} questions"
    table = figure_table(title, facts["figures"])
    for groups in facts["subgroups"].values():
        for name, found in groups.items():
            figure = next(iter(found["figures"].values()))  # accuracy, or token F1
            add_figure(table, f"{name} ({found['count']})", figure)
    out.print(table)
    out.print(f"items and {METRICS} in {asked.place}", soft_wrap=True)
