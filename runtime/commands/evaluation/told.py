"""Figures as tables tell them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...evaluation.pages.words import figure_text

if TYPE_CHECKING:
    from rich.table import Table


def images_text(items: Mapping[str, Any]) -> str:
    """How many images were evaluated, of how many patients or the like."""
    groups = items["groups"]
    return f"{items['evaluated']} images" + (f" of {groups['count']} {groups['of']}s" if groups else "")


def figure_table(title: str, figures: Mapping[str, Any]) -> Table:
    """A line a figure, with its interval."""
    from rich.table import Table

    table = Table("figure", "value", "95% interval", title=title)
    for name, figure in figures.items():
        add_figure(table, figure_text(name), figure)
    return table


def add_figure(table: Table, name: str, figure: Mapping[str, float | None]) -> None:
    """Add a line to a `figure_table`."""
    table.add_row(name, number_text(figure["value"]), interval_text(figure))


def number_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def interval_text(figure: Mapping[str, float | None]) -> str:
    return "-" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"
