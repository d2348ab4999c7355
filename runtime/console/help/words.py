"""What the help calls the values of arguments and options: in words, where Typer 0.29 writes Python's types."""

from __future__ import annotations

from functools import partial
from typing import Any

from typer.core import TyperCommand, TyperGroup

# A switch takes no value: "<bool>" after it makes people type one.
_WORDS = {
    "<bool>": "", "<str>": "<text>", "<int>": "<number>", "<float>": "<number>", "<int range>": "<number>",
    "<float range>": "<number>", "<list[Path]>": "<path>", "<list[str]>": "<text>", "<list[int]>": "<number>",
    "<list[float]>": "<number>",
}  # fmt: skip


class PlainCommand(TyperCommand):
    """A command whose help names no type of Python."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _in_words(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """Commands under one name, whose help names no type of Python."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _in_words(super().get_params(ctx))


def _in_words(params: list[Any]) -> list[Any]:
    for param in params:
        if shown := getattr(param, "display_type_rich", None):  # older versions of Typer have their own words
            param.display_type_rich = partial(_word, shown)
    return params


def _word(shown: Any, ctx: Any) -> Any:
    found = shown(ctx=ctx)
    return _WORDS.get(found, found)
