"""What all pages share: their base, their style, and how numbers stand in them. Needs `medge[pages]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from .words import number, percent, span, three


@dataclass(frozen=True)
class Head:
    """How a page begins: its title, and [(name, fact)]."""

    title: str
    facts: Sequence[tuple[str, str]]


def templates_of(package: str) -> Environment:
    """The templates of a package, which may extend `page_base.html.jinja`; one that names what does not exist fails.

    Args:
        package: where they lie, such as "medge.export.pages".
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader("medge.runtime.pages", "")]), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(number=number, percent=percent, three=three)
    environment.globals.update(span=span)
    return environment
