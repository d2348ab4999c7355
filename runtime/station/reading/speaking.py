"""A language model whose turn has come, for what a thread of the station asks it: drafts of reports, questions over records."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ...generator.answering import Counts
from ...generator.conversation import DEFAULT_SAMPLING, Answer, Fragment, Sampling, Turn
from ...generator.generator import Generator
from ...progress import Progress
from ..models.answers import AnswerQueue, BusyError, Ticket
from ..models.catalogue import Entry
from ..models.shelf import Shelf

_LOOK = 0.1  # seconds between two looks whether it is its turn


class WatchedChat:
    """A generator that tells how far its answer is, and ends it where whoever is told raises. A `RoomyChat`.

    Args:
        generator: which the shelf has lent.
        watch: told of tokens.
    """

    def __init__(self, generator: Generator, watch: Progress) -> None:
        self._generator, self._watch = generator, watch

    def chat(
        self, turns: Sequence[Turn], sampling: Sampling = DEFAULT_SAMPLING, *, think: bool = False,
        schema: dict[str, Any] | None = None,
    ) -> Answer:  # fmt: skip
        """As `Chat.chat`."""
        counts, texts = Counts(), {True: "", False: ""}
        stream = self._generator.stream(turns, sampling, think=think, schema=schema, counts=counts)
        stop: Any = "end"
        with contextlib.closing(stream):  # type: ignore[type-var]  # a generator, which is typed as an iterator
            for fragment in stream:
                texts[fragment.thought] += fragment.text
                stop = fragment.stop or stop
                self._watch("words", counts.tokens, sampling.limit)
        return Answer(texts[False], texts[True], stop, counts.prompt, counts.reused, counts.tokens)

    def stream(
        self, turns: Sequence[Turn], sampling: Sampling = DEFAULT_SAMPLING, *, think: bool = False,
        schema: dict[str, Any] | None = None,
    ) -> Iterator[Fragment]:  # fmt: skip
        """As `Chat.stream`."""
        return self._generator.stream(turns, sampling, think=think, schema=schema)

    @property
    def context(self) -> int:
        """As `RoomyChat.context`."""
        return self._generator.context

    @property
    def image_tokens(self) -> int:
        """As `RoomyChat.image_tokens`."""
        return self._generator.image_tokens

    def count_tokens(self, text: str) -> int:
        """As `RoomyChat.count_tokens`."""
        return self._generator.count_tokens(text)

    def make_room(self, tokens: int) -> int:
        """As `RoomyChat.make_room`; the station's context stays as it was planned."""
        return self._generator.context


@contextlib.contextmanager
def speaking(
    answers: AnswerQueue, shelf: Shelf, entry: Entry, watch: Progress, *, patient: bool
) -> Iterator[WatchedChat]:
    """Wait for the answers before this one, and borrow the model.

    Args:
        answers: the queue before the language models.
        shelf: which lends the model.
        entry: which model.
        watch: told how far it is; what it raises ends the answer, also one that waits.
        patient: wait where the queue is full, too.

    Raises:
        BusyError: the queue is full.
        ContextError: the model does not fit into memory.
    """
    ticket = _joined(answers, watch, patient)
    try:
        while place := ticket.place:
            watch(f"waits: {place} answers before it", 0, 0)
            time.sleep(_LOOK)
        ticket.wait()
        watch("opens the model", 0, 0)
        with shelf.borrow(entry) as generator:
            yield WatchedChat(generator, watch)
    finally:
        ticket.leave()


def _joined(answers: AnswerQueue, watch: Progress, patient: bool) -> Ticket:
    while True:
        try:
            return answers.join()
        except BusyError:
            if not patient:
                raise
            watch("waits for a place among the answers", 0, 0)
            time.sleep(_LOOK)
