"""Ask a language model for the findings of images, one finding after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ....console.image_run import end_with
from ....console.layouts import TABLES, Row, check_ending
from ....console.terminal import err, out, warn
from ....evaluation.answers.findings import (
    figures_of_findings,
    known_of,
    numbers_of_findings,
    said_of,
    texts_of_findings,
)
from ....evaluation.items import Item, drawn, without_names
from ....evaluation.rows import check_found, counts_of
from ....evaluation.task import ASK, Named, Task
from ....generator.conversation import Sampling, user
from ....pictures.images import read_image
from ..given import Finished, Given
from ..pictures import tell_what_is_left_out
from ..subject import LanguageModel
from ..told import figure_table, images_text, interval_text, number_text
from ..written import METRICS, facts_of, items_file, rows_of, same_of, seconds_of, write_facts
from .put import columns_of, put_all
from .put import counts_of as counts_of_answers

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class AskedFindings(Given):
    """What a user asked for.

    Attributes:
        named: the task, with prompts for language models.
    """

    named: Named


class YesOrNo:
    """An image, and a question of yes or no for each finding.

    The image stands first in each, so that the engine computes its tokens once.

    Args:
        model: the model.
        task: the task.
        items: all that may be asked about.
    """

    def __init__(self, model: LanguageModel, task: Task, items: Sequence[Item]) -> None:
        assert task.ask is not None  # the method is refused where it is
        self._model, self._limit = model, task.ask.limit
        self._questions = {label: task.question(label) for label in task.labels}
        self.texts: tuple[str, ...] = tuple(texts_of_findings(items))
        self.numbers: tuple[str, ...] = tuple(numbers_of_findings(list(task.labels)))

    def known(self, question: Item) -> Row:
        return known_of(question, list(self._questions))

    def put(self, question: Item) -> Row:
        image = read_image(question.open())
        replies, stop, tokens = {}, "end", 0
        for label, text in self._questions.items():
            said = self._model.chat([user(image, text)], Sampling(limit=self._limit))
            replies[label] = said.text
            tokens += said.tokens
            stop = said.stop if said.stop != "end" else stop
        return {"stop": stop, "text": json.dumps(replies, ensure_ascii=False), "tokens": tokens, **said_of(replies)}

    def unanswered(self, question: Item) -> Row:
        return said_of(dict.fromkeys(self._questions, ""))

    def figures(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return figures_of_findings([dict(row) for row in rows], list(self._questions))


def evaluate_findings(language: LanguageModel, asked: AskedFindings) -> Finished:
    """Ask for the findings of the test side's images, and write items and metrics.

    Raises:
        TaskError: the folder does not hold the task's data.
        StorageError: the folder of results holds those of another question.
        GeneratorError: the model reads text only.
    """
    task, name = asked.named.task, asked.named.name
    assert task.ask is not None
    found = asked.named.layout.read(asked.data, name, task.values)
    check_found(found, name, asked.data)
    tell_what_is_left_out(found)
    chosen = drawn([item for item in found.items if item.part == "test"], asked.limit, asked.seed)
    if asked.no_names:
        chosen = without_names(chosen)
    file = items_file(asked.place, asked.form)
    check_ending(file, TABLES)
    way = YesOrNo(language, task, found.items)
    prompts = {label: task.question(label) for label in task.labels}
    model = language.told
    columns = columns_of(way, same_of(model, asked.named, ASK, prompts, task.ask.limit))
    before, failed = put_all(way, asked, chosen, file, columns)
    rows = rows_of(file, columns, (item.key for item in chosen))
    facts = facts_of(model, asked, asked.named, ASK, scored=len(chosen) - before - len(failed))
    facts["task"] |= {
        "labels": list(task.labels), "prompts_from": task.ask.prompts_from, "prompt": task.ask.prompt, "prompts": prompts,
        "limit": task.ask.limit, "asked": task.ask.protocol,
    }  # fmt: skip
    facts["items"] = counts_of(found, chosen, rows, task.groups) | counts_of_answers(rows)
    facts |= seconds_of(rows) | (way.figures(rows) if rows else {})
    write_facts(asked.place / METRICS, facts)
    if rows and (unclear := {label: n for label, one in facts["labels"].items() if (n := one["unreadable"])}):
        several = ", ".join(f"{label} ({count})" for label, count in unclear.items())
        warn(f"{sum(unclear.values())} answers are neither yes nor no, and count as wrong: {several}")
    if before:
        err.print(f"medge: {len(rows)} images, {before} done before", soft_wrap=True)
    return Finished(
        asked.place, facts, {"failed": [asdict(one) for one in failed]}, lambda: _tell(facts, asked),
        lambda: end_with(failed, done=len(rows)), rows, prompts,
    )  # fmt: skip


def _tell(facts: dict[str, Any], asked: AskedFindings) -> None:
    """Print macro F1, and the figures of each finding."""
    out.print(figure_table(f"{facts['task']['name']}, {ASK}: {images_text(facts['items'])}", facts["figures"]))
    out.print(_by_finding(facts["labels"]))
    out.print(f"items and {METRICS} in {asked.place}", soft_wrap=True)


def _by_finding(labels: Mapping[str, Any]) -> Table:
    from rich.table import Table

    table = Table("finding", "images", "F1", "95% interval", "sensitivity", "specificity", "unreadable")
    for label, found in labels.items():
        table.add_row(
            label, f"{found['count']} of {found['known']}", number_text(found["f1"]["value"]), interval_text(found["f1"]),
            number_text(found["sensitivity"]["value"]), number_text(found["specificity"]["value"]),
            str(found["unreadable"]),
        )  # fmt: skip
    return table
