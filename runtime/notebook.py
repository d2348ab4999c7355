"""How results look in a notebook: small HTML tables that carry their own escaping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def paragraph(text: str) -> str:
    """Text with its line breaks."""
    return f"<p>{'<br>'.join(escape(line) for line in text.splitlines())}</p>"


def folded(title: str, text: str) -> str:
    """Text that is shown when its title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{paragraph(text)}</details>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> str:
    """A table of texts.

    Args:
        header: the columns' names.
        rows: texts, as many in each row as there are columns.
        title: what stands above it.
    """
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def fact_table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A table of facts: what, and what is said of it."""
    return table(("", ""), rows, title)


def shorten(names: Sequence[str], most: int = 4) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
