"""The ways in which questions are put to a language model: what each writes of an answer, and which figures are made of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ...console.layouts import Row
from ...errors import BundleError
from ...evaluation.answers import figures_of_answers, letter_of, likelihoods, prompt_of
from ...evaluation.items import ImageQuestion, Question
from ...evaluation.layouts.choices import LETTERS
from ...evaluation.rows import SCORE
from ...evaluation.short_answers import agrees, figures_of_short_answers, token_f1
from ...generator.conversation import Sampling, user
from ...generator.generator import Generator
from ...pictures.images import read_image


class Way(Protocol):
    """A way to put questions.

    Attributes:
        texts, numbers: columns that it writes, beside those of all ways.
    """

    texts: tuple[str, ...]
    numbers: tuple[str, ...]

    def put(self, question: Any) -> Row:
        """What the file of items holds of a question's answer.

        Raises:
            ContextError: the question is longer than the context.
            ImageError: its image can't be read.
        """
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

    def put(self, question: Question) -> Row:
        said = self._generator.chat([user(prompt_of(self._template, question))], Sampling(limit=self._limit))
        letter = letter_of(said.text, len(question.options))
        return {"answer": letter, "stop": said.stop, "text": said.text, "tokens": said.tokens}

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

    def put(self, question: Question) -> Row:
        engine = self._generator.engine
        engine.prefill(self._generator.encode([user(prompt_of(self._template, question))]))
        scores = likelihoods(engine.next_logits(), self._tokens[: len(question.options)])
        best = LETTERS[max(range(len(scores)), key=scores.__getitem__)]
        return {"answer": best, "tokens": 0, **dict(zip(self.numbers, (round(one, 6) for one in scores), strict=False))}

    def figures(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return figures_of_answers(rows)


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

    def put(self, question: ImageQuestion) -> Row:
        prompt = self._template.replace("{question}", question.text)
        said = self._generator.chat([user(read_image(question.open()), prompt)], Sampling(limit=self._limit))
        answer = said.text.strip()
        return {
            "answer": answer, "stop": said.stop, "text": said.text, "image": question.image, "tokens": said.tokens,
            "f1": round(token_f1(answer, question.answer), 6),
            "right": int(agrees(answer, question.answer)) if question.closed else None,
        }  # fmt: skip

    def figures(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return figures_of_short_answers(rows)


def label_of(question: Question | ImageQuestion) -> str:
    """The right answer, as the file of items has it."""
    return LETTERS[question.right] if isinstance(question, Question) else question.answer
