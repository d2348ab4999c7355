"""The ways in which questions are put to a language model: what each writes of an answer, and which figures are made of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ....assistants.fhir import read_record
from ....assistants.health_record import answer_from_record
from ....console.layouts import Row
from ....evaluation.answers.letters import figures_of_answers, letter_of, likelihoods, prompt_of
from ....evaluation.answers.records import figures_of_records, score_of
from ....evaluation.answers.reports import check_installed, figures_of_reports, scores_of
from ....evaluation.answers.short import agrees, figures_of_short_answers, token_f1
from ....evaluation.items import LETTERS, ImageQuestion, Question, RecordQuestion, ReportItem
from ....evaluation.rows import SCORE
from ....generator.conversation import Sampling, user
from ....pictures.images import read_image
from ..subject import LanguageModel


class Way(Protocol):
    """A way to put questions.

    Attributes:
        texts, numbers: columns that it writes, beside those of all ways.
    """

    texts: tuple[str, ...]
    numbers: tuple[str, ...]

    def known(self, question: Any) -> Row:
        """What the file of items holds of a question, whatever is answered."""
        ...

    def put(self, question: Any) -> Row:
        """What the file of items holds of a question's answer.

        Raises:
            ContextError: the question is longer than the context.
            ImageError: its image can't be read.
        """
        ...

    def unanswered(self, question: Any) -> Row:
        """What it holds in place of an answer where the question is longer than the context."""
        ...

    def figures(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The figures of the rows, at least one."""
        ...


class StepByStep:
    """The model thinks aloud, and ends with a letter.

    Args:
        model: the model.
        template: the prompt.
        limit: most tokens of an answer.
    """

    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    def __init__(self, model: LanguageModel, template: str, limit: int) -> None:
        self._model, self._template, self._limit = model, template, limit

    def known(self, question: Question) -> Row:
        return _letter(question)

    def put(self, question: Question) -> Row:
        said = self._model.chat([user(prompt_of(self._template, question))], Sampling(limit=self._limit))
        letter = letter_of(said.text, len(question.options))
        return {"answer": letter, "stop": said.stop, "text": said.text, "tokens": said.tokens}

    def unanswered(self, question: Question) -> Row:
        return {}

    def figures(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return figures_of_answers(rows)


class Likelihood:
    """The letters' probabilities as the first token of the answer.

    Args:
        model: the model.
        template: the prompt.
        options: of the question that has most.

    Raises:
        BundleError: a letter is not one token.
    """

    texts: tuple[str, ...] = ()

    def __init__(self, model: LanguageModel, template: str, options: int) -> None:
        self._model, self._template = model, template
        self.numbers: tuple[str, ...] = tuple(f"{SCORE}{letter}" for letter in LETTERS[:options])
        self._tokens = model.tokens_of(LETTERS[:options])

    def known(self, question: Question) -> Row:
        return _letter(question)

    def put(self, question: Question) -> Row:
        logits = self._model.next_logits([user(prompt_of(self._template, question))])
        scores = likelihoods(logits, self._tokens[: len(question.options)])
        best = LETTERS[max(range(len(scores)), key=scores.__getitem__)]
        return {"answer": best, "tokens": 0, **dict(zip(self.numbers, (round(one, 6) for one in scores), strict=False))}

    def unanswered(self, question: Question) -> Row:
        return {}

    def figures(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return figures_of_answers(rows)


def _letter(question: Question) -> Row:
    return {"label": LETTERS[question.right], "subject": question.subject}


class ShortAnswer:
    """An image, a question, and an answer of a word or a few.

    Args:
        model: the model.
        template: the prompt.
        limit: most tokens of an answer.
    """

    texts: tuple[str, ...] = ("image",)
    numbers: tuple[str, ...] = ("f1", "right")

    def __init__(self, model: LanguageModel, template: str, limit: int) -> None:
        self._model, self._template, self._limit = model, template, limit

    def known(self, question: ImageQuestion) -> Row:
        return {"label": question.answer, "subject": question.subject, "image": question.image}

    def put(self, question: ImageQuestion) -> Row:
        prompt = self._template.replace("{question}", question.text)
        said = self._model.chat([user(read_image(question.open()), prompt)], Sampling(limit=self._limit))
        answer = said.text.strip()
        return {
            "answer": answer, "stop": said.stop, "text": said.text, "tokens": said.tokens,
            "f1": round(token_f1(answer, question.answer), 6),
            "right": int(agrees(answer, question.answer)) if question.closed else None,
        }  # fmt: skip

    def unanswered(self, question: ImageQuestion) -> Row:
        return {"f1": 0.0, "right": 0 if question.closed else None}

    def figures(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return figures_of_short_answers(rows)


class OverRecord:
    """A patient's record, a question, and a short answer, as `medge record` gives it.

    Args:
        model: the model.
        template: the prompt; what follows the question says how to answer.
        limit: most tokens of an answer.
        records: all files that questions name; they are read once at the beginning, so that a broken one is told then.

    Raises:
        RecordError: a file is no record.
        TaskError: the model's answers can't be forced into JSON.
    """

    texts: tuple[str, ...] = ("group", "kind")
    numbers: tuple[str, ...] = ("f1", "right", "lines_shown", "lines")

    def __init__(self, model: LanguageModel, template: str, limit: int, records: Iterable[Path]) -> None:
        self._chat, self._form, self._limit = model.records, template.removeprefix("{question}").strip(), limit
        for path in sorted(set(records)):
            read_record(path)

    def known(self, question: RecordQuestion) -> Row:
        return {"label": question.answer, "kind": question.kind, "group": question.group}

    def put(self, question: RecordQuestion) -> Row:
        said = answer_from_record(
            self._chat, question.record, question.text, Sampling(limit=self._limit), form=self._form
        )
        right, f1 = score_of(said.text, question.answer, question.kind)
        return {
            "answer": said.text, "stop": said.stop, "text": said.text, "tokens": None,
            "f1": round(f1, 6), "right": right, "lines_shown": said.shown, "lines": said.of,
        }  # fmt: skip

    def unanswered(self, question: RecordQuestion) -> Row:
        return {"f1": 0.0, "right": 0}

    def figures(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return figures_of_records(rows)


class WriteReport:
    """An image, and a report of it in free text.

    Args:
        model: the model.
        prompt: the prompt.
        limit: most tokens of a report.

    Raises:
        MissingExtraError: what compares reports is not installed.
    """

    texts: tuple[str, ...] = ("group", "image")
    numbers: tuple[str, ...] = ("chrf", "f1")

    def __init__(self, model: LanguageModel, prompt: str, limit: int) -> None:
        check_installed()
        self._model, self._prompt, self._limit = model, prompt.strip(), limit

    def known(self, question: ReportItem) -> Row:
        return {"label": question.report, "group": question.group, "image": question.image}

    def put(self, question: ReportItem) -> Row:
        said = self._model.chat([user(read_image(question.open()), self._prompt)], Sampling(limit=self._limit))
        text = " ".join(said.text.split())
        return {"answer": text, "stop": said.stop, "text": said.text, "tokens": said.tokens} | scores_of(
            text, question.report
        )

    def unanswered(self, question: ReportItem) -> Row:
        return {"chrf": 0.0, "f1": 0.0}

    def figures(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return figures_of_reports(rows)
