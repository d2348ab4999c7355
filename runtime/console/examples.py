"""What the examples in the commands' help print; `docs/make_examples.py` ran them and wrote `examples.json`."""

from __future__ import annotations

import inspect
import json
from importlib import resources

MARK = "Example: "


def read_examples() -> dict[str, list[str]]:
    """{command, such as "index build": the lines that its example prints}."""
    return dict(json.loads((resources.files(__package__) / "examples.json").read_text(encoding="utf-8")))


def typed(text: str) -> str | None:
    """The example of a command's help, as it is typed; None where there is none."""
    _, found, example = inspect.cleandoc(text).partition(MARK)
    return " ".join(example.split()) if found else None


def with_output(text: str, command: str) -> str:
    """A command's help, and below its example what that prints.

    Args:
        text: the help, whose last paragraph is the example.
        command: "classify", "index build".
    """
    text = inspect.cleandoc(text)
    lines = read_examples().get(command, [])
    if MARK not in text or not lines:
        return text
    shown = "\n".join(f"    {line}".rstrip() for line in lines)
    return f"{text}\n\n{_escape(shown)}"


def _escape(text: str) -> str:
    """As help texts need it, in which square brackets mean styles."""
    return text.replace("[", "\\[")
