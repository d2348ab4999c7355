"""What the examples in the commands' help print; `docs/make_examples.py` ran them and wrote `examples.json`."""

from __future__ import annotations

import inspect
import json
from functools import cache
from importlib import resources

MARK = "Example: "


@cache
def read_examples() -> dict[str, list[str]]:
    """{command, such as "index build": the lines that its example prints}."""
    return dict(json.loads((resources.files(__package__) / "examples.json").read_text(encoding="utf-8")))


def typed(text: str) -> str | None:
    """The example of a command's help, as it is typed; None where there is none."""
    examples = [part for part in _paragraphs(text) if part.startswith(MARK)]
    return " ".join(examples[0].removeprefix(MARK).split()) if examples else None


def with_output(text: str, command: str) -> str:
    """A command's help in paragraphs that the terminal breaks into lines, and below its example what that prints.

    Typer keeps the line breaks of the source, which on a narrower terminal leave a line of two words after each full one.

    Args:
        text: the help, in which the example is a paragraph of its own.
        command: "classify", "index build".
    """
    paragraphs = []
    for part in _paragraphs(text):
        paragraphs.append(_unwrapped(part))
        if part.startswith(MARK) and (lines := read_examples().get(command)):
            paragraphs.append("\n".join(f"    {_escape(line)}".rstrip() for line in lines))
    return "\n\n".join(paragraphs)


def _paragraphs(text: str) -> list[str]:
    return inspect.cleandoc(text).split("\n\n")


def _unwrapped(paragraph: str) -> str:
    """A paragraph of prose in one line; what is indented is code, and stays."""
    lines = paragraph.split("\n")
    return paragraph if any(line.startswith(" ") for line in lines) else " ".join(lines)


def _escape(text: str) -> str:
    """As help texts need it, in which square brackets mean styles."""
    return text.replace("[", "\\[")
