"""What is said between a person and a language model, and what anything that chats offers; a leaf that runs no model.

chat([user("film.dcm" as a Path, "Is there a pleural effusion?")], Sampling(limit=100)).text
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

from ..pictures.images import ImageSource, read_image
from ..pictures.view import DEFAULT_VIEW, View

Part = str | ImageSource
Stop = Literal["end", "limit", "context"]


@dataclass(frozen=True)
class Sampling:
    """What a caller chooses about an answer. The same choice gives the same answer.

    Attributes:
        limit: most tokens to generate.
        temperature: 0 for the likeliest token each time, and then nothing below matters; else how freely to sample.
        seed: of sampling.
        top_k, top_p: sample among so many of the likeliest tokens, and among those that make up this probability.
    """

    limit: int = 512
    temperature: float = 0.0
    seed: int = 0
    top_k: int = 64
    top_p: float = 0.95


DEFAULT_SAMPLING = Sampling()


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation. A `str` is text; an image is a `Path`, a PIL image or an array."""

    role: str
    parts: tuple[Part, ...]


def user(*parts: Part) -> Turn:
    """What the user says: texts and images in any order."""
    return Turn("user", parts)


def assistant(text: str) -> Turn:
    """What the model said before."""
    return Turn("assistant", (text,))


def system(text: str) -> Turn:
    """An instruction before the conversation."""
    return Turn("system", (text,))


def about(images: ImageSource | Sequence[ImageSource] | None, question: str, view: View = DEFAULT_VIEW) -> Turn:
    """A question about one image, several or none; here a `str` among the images is a path. The images are read at once.

    Raises:
        ImageError: an image can't be read.
    """
    single = isinstance(images, str | os.PathLike | Image.Image | np.ndarray)
    many: Iterable[Any] = [images] if single else images or ()  # type: ignore[assignment]
    return user(*(read_image(image, view) for image in many), question)


@dataclass(frozen=True)
class Fragment:
    """A piece of an answer as it comes; `thought` where it belongs to the trace."""

    text: str
    thought: bool = False


@dataclass(frozen=True)
class Answer:
    """A whole answer.

    Attributes:
        text: the answer.
        thought: the trace that came before it, or "".
        stop: why it ended: the model was done, `limit` was reached, or the context is full.
        prompt_tokens, reused_tokens, tokens: of the prompt, of it already evaluated before, of the answer.
    """

    text: str
    thought: str
    stop: Stop
    prompt_tokens: int
    reused_tokens: int
    tokens: int


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
