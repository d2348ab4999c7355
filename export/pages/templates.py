"""The templates of parity and of distillation, with what only they show."""

from __future__ import annotations

from jinja2 import Environment

from ...runtime.bundles.figures import EncoderFigures, GeneratorFigures, read_figure
from ...runtime.bundles.origin import Origin
from ...runtime.pages.templates import templates_of
from .words import figure_words, interval, measured


def pages() -> Environment:
    """The templates; one that names what does not exist fails."""
    environment = templates_of("medge.export.pages")
    environment.filters.update(interval=interval, measured=measured, words=figure_words, figure=_value)
    return environment


def origin_facts(made: Origin) -> list[tuple[str, str]]:
    """When, by which medge and from which files; of more than three files the first ones."""
    hashes = [f"{name} {sha[:12]}" for name, sha in made.source.items()]
    more = f" and {len(hashes) - 3} more" if len(hashes) > 3 else ""
    return [("date", made.date), ("medge", made.medge), ("source (SHA-256)", ", ".join(hashes[:3]) + more)]


def _value(figures: EncoderFigures | GeneratorFigures, path: str) -> float | None:
    """A figure's value by its path; None where it was not measured.

    Raises:
        LookupError: there is no such figure.
    """
    found = read_figure(figures, path)
    return None if found is None else found.value
