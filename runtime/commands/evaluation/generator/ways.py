"""The ways in which questions are put to a language model: what each writes of an answer, and which figures are made of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ....assistants.fhir import read_record
from ....assistants.health_record import answer_from_record
from ....console.layouts import Row
from ....errors import BundleError
from ....evaluation.answers.letters import figures_of_answers, letter_of, likelihoods, prompt_of
from ....evaluation.answers.records import figures_of_records, score_of
from ....evaluation.answers.reports import check_installed, figures_of_reports, scores_of
from ....evaluation.answers.short import agrees, figures_of_short_answers, token_f1
from ....evaluation.items import LETTERS, ImageQuestion, Question, RecordQuestion, ReportItem
from ....evaluation.rows import SCORE
from ....generator.conversation import Sampling, user
from ....generator.generator import Generator
from ....pictures.images import read_image


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
        generator: the model.
        template: the prompt.
        limit: most tokens of an answer.
    """

    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    def __init__(self, generator: Generator, template: str, limit: int) -> None:
        self._generator, self._template, self._limit = generator, template, limit

    def known(self, question: Question) -> Row:
        return _letter(question)

    def put(self, question: Question) -> Row:
        said = self._generator.chat([user(prompt_of(self._template, question))], Sampling(limit=self._limit))
        letter = letter_of(said.text, len(question.options))
        return {"answer": letter, "stop": said.stop, "text": said.text, "tokens": said.tokens}

    def unanswered(self, question: Question) -> Row:
        return {}

    def figures(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return figures_of_answers(rows)


class Likelihood:
    """The letters' probabilities as the first token of the answer.

    Args:
        generator: the model.
        template: the prompt.
        options: of the question that has most.

    Raises:
        BundleError: a letter is not one token.
    """

    texts: tuple[str, ...] = ()

    def __init__(self, generator: Generator, template: str, options: int) -> None:
        self._generator, self._template = generator, template
        self.numbers: tuple[str, ...] = tuple(f"{SCORE}{letter}" for letter in LETTERS[:options])
        found = [generator.engine.tokenize(letter, special=False) for letter in LETTERS[:options]]
        if any(len(tokens) != 1 for tokens in found):
            raise BundleError(f"{generator.bundle.folder}: its tokenizer cuts letters apart; use --method step-by-step")
        self._tokens = [tokens[0] for tokens in found]

    def known(self, question: Question) -> Row:
        return _letter(question)

    def put(self, question: Question) -> Row:
        engine = self._generator.engine
        engine.prefill(self._generator.encode([user(prompt_of(self._template, question))]))
        scores = likelihoods(engine.next_logits(), self._tokens[: len(question.options)])
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
        generator: the model.
        template: the prompt.
        limit: most tokens of an answer.
    """

    texts: tuple[str, ...] = ("image",)
    numbers: tuple[str, ...] = ("f1", "right")

    def __init__(self, generator: Generator, template: str, limit: int) -> None:
        self._generator, self._template, self._limit = generator, template, limit

    def known(self, question: ImageQuestion) -> Row:
        return {"label": question.answer, "subject": question.subject, "image": question.image}

    def put(self, question: ImageQuestion) -> Row:
        prompt = self._template.replace("{question}", question.text)
        said = self._generator.chat([user(read_image(question.open()), prompt)], Sampling(limit=self._limit))
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
        generator: the model.
        template: the prompt; what follows the question says how to answer.
        limit: most tokens of an answer.
        records: all files that questions name; they are read once at the beginning, so that a broken one is told then.

    Raises:
        RecordError: a file is no record.
    """

    texts: tuple[str, ...] = ("group", "kind")
    numbers: tuple[str, ...] = ("f1", "right", "lines_shown", "lines")

    def __init__(self, generator: Generator, template: str, limit: int, records: Iterable[Path]) -> None:
        self._generator, self._form, self._limit = generator, template.removeprefix("{question}").strip(), limit
        for path in sorted(set(records)):
            read_record(path)

    def known(self, question: RecordQuestion) -> Row:
        return {"label": question.answer, "kind": question.kind, "group": question.group}

    def put(self, question: RecordQuestion) -> Row:
        said = answer_from_record(
            self._generator, question.record, question.text, Sampling(limit=self._limit), form=self._form
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
        generator: the model.
        prompt: the prompt.
        limit: most tokens of a report.

    Raises:
        MissingExtraError: what compares reports is not installed.
    """

    texts: tuple[str, ...] = ("group", "image")
    numbers: tuple[str, ...] = ("chrf", "f1")

    def __init__(self, generator: Generator, prompt: str, limit: int) -> None:
        check_installed()
        self._generator, self._prompt, self._limit = generator, prompt.strip(), limit

    def known(self, question: ReportItem) -> Row:
        return {"label": question.report, "group": question.group, "image": question.image}

    def put(self, question: ReportItem) -> Row:
        said = self._generator.chat([user(read_image(question.open()), self._prompt)], Sampling(limit=self._limit))
        text = " ".join(said.text.split())
        return {"answer": text, "stop": said.stop, "text": said.text, "tokens": said.tokens} | scores_of(
            text, question.report
        )

    def unanswered(self, question: ReportItem) -> Row:
        return {"chrf": 0.0, "f1": 0.0}

    def figures(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return figures_of_reports(rows)
