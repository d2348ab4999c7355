"""The plots of a comparison: the main figure against what a run costs. Runs are drawn by their numbers in the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...pages.drawing import BUNDLE, INK, REFERENCE, Figure, new_axes, svg
from .run_plots import Plot
from .words import figure_text

_COSTS = (
    ("size", "size on disk, MB", "bytes", 1e6, "The files of the towers."),
    ("memory", "peak memory, MB", "peak_bytes", 1e6, "The most that the run's process took, with Python and the images in it."),
    ("time", "seconds an item", "seconds_an_item", 1.0, "On the machine that each run was on, and as busy as it was."),
)  # fmt: skip


def cost_plots(facts: Mapping[str, Any]) -> list[Plot]:
    """The main figure against size, memory and time, as far as at least two runs recorded them."""
    plots = []
    for cost, axis, key, unit, note in _COSTS:
        points = [
            (number, result[key] / unit, result["figures"][facts["headline"]])
            for number, result in enumerate(facts["results"], 1) if result[key] is not None
        ]  # fmt: skip
        if len(points) > 1:
            title = f"{figure_text(facts['headline'])} against {cost}"
            title = title[:1].upper() + title[1:]
            missing = len(facts["results"]) - len(points)
            rest = (
                f" {missing} runs did not record it."
                if missing > 1
                else " One run did not record it."
                if missing
                else ""
            )
            said = f"{note}{rest} Numbers are those of the table; lines are 95% intervals. Upper left is best."
            plots.append((title, svg(_scatter(points, axis, figure_text(facts["headline"])), title), said))
    return plots


def _scatter(points: Sequence[tuple[int, float, Mapping[str, Any]]], axis: str, headline: str) -> Figure:
    figure, axes = new_axes()
    for number, x, one in points:
        colour = REFERENCE if number == 1 else BUNDLE
        if one["low"] is not None:
            axes.vlines(x, one["low"], one["high"], color=colour, linewidth=1.2)
        axes.plot([x], [one["value"]], "o", color=colour, markersize=6)
        axes.annotate(
            str(number), (x, one["value"]), textcoords="offset points", xytext=(7, 5), fontsize=9, color=INK
        )  # fmt: skip
    axes.set_xlabel(axis)
    axes.set_ylabel(headline)
    axes.margins(x=0.15)
    if min(x for _, x, _ in points) > 0:
        low, high = min(x for _, x, _ in points), max(x for _, x, _ in points)
        if high > 20 * low:
            axes.set_xscale("log")
    return figure
