"""One answer: what is asked, who waits for it, and how tokens become text."""

from __future__ import annotations

import codecs
import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import GeneratorError
from .chat_template import Message
from .conversation import Answer, Fragment, Sampling, Turn
from .engine import Engine
from .prompt import Item, Picture, length

# MedGemma writes its trace between these two (its model card's notebooks call it "thinking").
THOUGHT, THOUGHT_END = "<unused94>", "<unused95>"


@dataclass(frozen=True)
class Question:
    """A conversation with its images prepared, and how it shall be answered."""

    messages: Sequence[Message]
    pictures: Sequence[Picture]
    sampling: Sampling
    schema: dict[str, Any] | None = None


@dataclass
class Counts:
    """Tokens of an answer that is being made: its prompt's, those of it that were evaluated before, its own."""

    prompt: int = 0
    reused: int = 0
    tokens: int = 0


def message_of(turn: Turn) -> Message:
    """A turn as templates take it. A system message is one text: templates read its first part alone."""
    if turn.role != "system":
        return Message(turn.role, tuple(part if isinstance(part, str) else None for part in turn.parts))
    if not all(isinstance(part, str) for part in turn.parts):
        raise GeneratorError("a system message is text; an image belongs to the user's turn")
    return Message("system", ("\n".join(str(part) for part in turn.parts),))


class Turnstile:
    """One answer at a time: an engine holds one conversation, and llama.cpp's context is not made for two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    @contextlib.contextmanager
    def one_answer(self) -> Iterator[None]:
        """Wait for the answers before this one.

        Raises:
            GeneratorError: this thread is itself in the middle of an answer, and would wait for ever.
        """
        if self._owner == threading.get_ident():
            raise GeneratorError("this generator is in the middle of an answer; read or close that stream first")
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait for the answers of other threads; one that this thread has begun and left counts as ended."""
        if self._owner == threading.get_ident():
            yield
            return
        with self._lock:
            yield


def fragments_of(
    engine: Engine, items: Sequence[Item], sampling: Sampling, grammar: str | None, counts: Counts
) -> Iterator[Fragment]:  # fmt: skip
    """An engine's tokens as text, the trace apart from the answer.

    Args:
        engine: what generates.
        items: the prompt.
        sampling: how tokens are chosen.
        grammar: GBNF, or None.
        counts: what is counted on the way.
    """
    thinking, full = False, False
    counts.prompt = length(items)
    begin, end = (engine.tokenize(mark) for mark in (THOUGHT, THOUGHT_END))
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character can be spread over several tokens
    for token in engine.generate(items, sampling, grammar=grammar):
        counts.tokens += 1
        counts.reused = engine.reused
        full = counts.prompt + counts.tokens >= engine.context
        mark = [token] in (begin, end)
        if text := decoder.decode(b"" if mark else engine.piece(token), final=mark):
            yield Fragment(text, thinking)
        if mark:
            thinking = [token] == begin
    if text := decoder.decode(b"", final=True):
        yield Fragment(text, thinking)
    yield Fragment("", stop="context" if full else "limit" if counts.tokens >= sampling.limit else "end")


def answer_of(fragments: Iterator[Fragment], counts: Counts) -> Answer:
    """The whole answer, once all of it has come."""
    texts, stop = {True: "", False: ""}, None
    for fragment in fragments:
        texts[fragment.thought] += fragment.text
        stop = fragment.stop
    assert stop is not None  # of the last fragment
    thought = texts[True].removeprefix("thought").strip()
    return Answer(texts[False].strip(), thought, stop, counts.prompt, counts.reused, counts.tokens)
