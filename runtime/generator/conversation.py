"""What is said between a person and a language model, and what anything that chats offers; a leaf that runs no model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol

from ..errors import GeneratorError
from ..notebook import folded, paragraph
from ..pictures.endings import names_an_image
from ..pictures.images import ImageSource, as_sources, read_image
from ..pictures.view import DEFAULT_VIEW, View

Part = str | ImageSource
Stop = Literal["end", "limit", "context"]
# Of an answer that was cut off: where.
CUT_OFF: dict[Stop, str] = {"limit": "at the limit of tokens", "context": "where the context was full"}


@dataclass(frozen=True)
class Sampling:
    """What a caller chooses about an answer. The same choice gives the same answer.

    Attributes:
        limit: most tokens to generate.
        temperature: 0 for the likeliest token each time; else how freely to sample.
        seed: of sampling.
        top_k, top_p: sample among so many of the likeliest tokens, and among those that make up this probability.

    Raises:
        GeneratorError: a value that means nothing, or one that has no effect at temperature 0.

    Examples:
        >>> medge.Sampling(limit=100, temperature=0.7, seed=1).top_k
        64
    """

    limit: int = 512
    temperature: float = 0.0
    seed: int = 0
    top_k: int = 64
    top_p: float = 0.95

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise GeneratorError(f"an answer needs a limit of at least 1 token, not {self.limit}")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise GeneratorError(f"the temperature must be 0 or greater, not {self.temperature}")
        if self.top_k < 1 or not 0 < self.top_p <= 1:
            raise GeneratorError(f"top_k must be at least 1 and top_p in (0, 1], not {self.top_k} and {self.top_p}")
        idle = [f.name for f in fields(self) if f.name in _OF_CHANCE and getattr(self, f.name) != f.default]
        if self.temperature == 0 and idle:
            raise GeneratorError(
                f"at temperature 0 the likeliest token is taken each time: {idle[0]} has no effect; "
                "set a temperature above 0, or leave it out"
            )


_OF_CHANCE = ("seed", "top_k", "top_p")  # what matters only where tokens are drawn
DEFAULT_SAMPLING = Sampling()


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation. A `str` is text; an image is a `Path`, a PIL image or an array."""

    role: str
    parts: tuple[Part, ...]


def user(*parts: Part) -> Turn:
    """What the user says: texts and images in any order.

    Args:
        parts: a `str` is text; images are `Path`s, bytes, binary files, PIL images, arrays, or what `image` gives.

    Raises:
        GeneratorError: a text that is an image's path.

    Examples:
        >>> medge.user(Path("film.dcm"), "Is there a pleural effusion?").role
        'user'
        >>> medge.user("film.dcm", "Is there a pleural effusion?")
        Traceback (most recent call last):
        medge.runtime.errors.GeneratorError: 'film.dcm' names an image, but a str is text here: pass Path('film.dcm') or ...
    """
    for part in parts:
        if isinstance(part, str) and _names_an_image(part):
            raise GeneratorError(
                f"{part!r} names an image, but a str is text here: pass Path({part!r}) or medge.image({part!r})"
            )
    return Turn("user", parts)


def _names_an_image(text: str) -> bool:
    if len(text) > 1000 or "\n" in text or "\0" in text:
        return False
    try:
        return names_an_image(text) or Path(text).is_file()
    except OSError:  # longer than a file's name can be
        return False


def assistant(text: str) -> Turn:
    """What the model said before, for a conversation that goes on.

    Examples:
        >>> turns = [medge.user("Name a bone."), medge.assistant("The femur."), medge.user("Another?")]
        >>> [turn.role for turn in turns]
        ['user', 'assistant', 'user']
    """
    return Turn("assistant", (text,))


def system(text: str) -> Turn:
    """An instruction before the conversation.

    Examples:
        >>> medge.system("Answer in one word.").parts
        ('Answer in one word.',)
    """
    return Turn("system", (text,))


def refuse_empty(question: str) -> None:
    """Refuse a question without a word, before images are read for it.

    Raises:
        GeneratorError: it is one.
    """
    if not question.strip():
        raise GeneratorError("the question is empty")


def about(images: ImageSource | Sequence[ImageSource] | None, question: str, view: View = DEFAULT_VIEW) -> Turn:
    """A question about one image, several or none; here a `str` among the images is a path. The images are read at once.

    Raises:
        ImageError: an image can't be read.
        GeneratorError: the question is empty.
    """
    refuse_empty(question)
    return user(*(read_image(image, view) for image in (() if images is None else as_sources(images))), question)


@dataclass(frozen=True)
class Fragment:
    """A piece of an answer as it comes.

    Attributes:
        text: the piece; "" in the last one.
        thought: whether it belongs to the trace.
        stop: of the last one, why the answer ended; None of the others.
    """

    text: str
    thought: bool = False
    stop: Stop | None = None


@dataclass(frozen=True)
class Answer:
    """A whole answer.

    Attributes:
        text: the answer.
        thought: the trace that came before it, or "".
        stop: why it ended: the model was done, `limit` was reached, or the context is full.
        prompt_tokens: length of the prompt.
        reused_tokens: how many of these the engine still had from the prompt before.
        tokens: length of the answer.

    Examples:
        >>> reader = medge.load_generator("reader", context=512)
        >>> reader.ask(None, "Name a bone.", medge.Sampling(limit=2)).stop  # two tokens were not enough
        'limit'
    """

    text: str
    thought: str
    stop: Stop
    prompt_tokens: int
    reused_tokens: int
    tokens: int

    def _repr_html_(self) -> str:
        cut = "" if self.stop == "end" else f"Cut off {CUT_OFF[self.stop]}."
        thought = folded("What it thought first", self.thought) if self.thought else ""
        return thought + paragraph(self.text) + (f"<p><b>{cut}</b></p>" if cut else "")


class Chat(Protocol):
    """Anything that answers a conversation; `Generator` is one."""

    def chat(
        self, turns: Sequence[Turn], sampling: Sampling = DEFAULT_SAMPLING, *, think: bool = False,
        schema: dict[str, Any] | None = None,
    ) -> Answer:  # fmt: skip
        """A whole answer.

        Args:
            turns: the conversation; it ends with the user's turn.
            sampling: how long the answer may be, and how its tokens are chosen.
            think: ask the model to think first; its trace is kept apart.
            schema: a JSON schema; the answer is then JSON that it allows, forced by a grammar.

        Raises:
            ContextError: the conversation is longer than the context.
        """
        ...

    def stream(
        self, turns: Sequence[Turn], sampling: Sampling = DEFAULT_SAMPLING, *, think: bool = False,
        schema: dict[str, Any] | None = None,
    ) -> Iterator[Fragment]:  # fmt: skip
        """Yield an answer as it is generated; arguments as in `chat`."""
        ...


class RoomyChat(Chat, Protocol):
    """A chat that also says how much fits into its context."""

    @property
    def context(self) -> int:
        """Positions of the context."""
        ...

    @property
    def image_tokens(self) -> int:
        """Positions that an image takes; 0 where the model reads text only."""
        ...

    def count_tokens(self, text: str) -> int:
        """Positions that a text takes."""
        ...

    def make_room(self, tokens: int) -> int:
        """Make the context as long as this, as far as memory allows and the caller has not set its length.

        Returns:
            the positions of the context.
        """
        ...
