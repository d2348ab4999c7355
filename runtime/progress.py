"""How long work says how far it is, and what it left out: the types, and the functions that say nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

# Told of what a person should know and the work goes on without: a sentence, or a `Refused`, whose `str` is one.
Warn = Callable[[object], None]


class Progress(Protocol):
    """Called after each step of a long piece of work; `console.progress` draws what it is told."""

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Tell how far one kind of work is.

        Args:
            what: the kind of work, as a person reads it ("images"); each kind has a bar of its own.
            done, total: steps done, and how many there are.
        """


def no_warning(message: object, /) -> None:
    """Say nothing: what functions use that are not given a `Warn`."""


def no_progress(what: str, done: int, total: int, /) -> None:
    """Say nothing: what functions use that are not given a `Progress`."""
