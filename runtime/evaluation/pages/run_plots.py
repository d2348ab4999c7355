"""The plots of a run. Names of labels are no part of them, but stand in the page: they may hold anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ...pages.drawing import BUNDLE, REFERENCE, SOFT, Figure, legend_below, new_axes, svg
from ..figures import Judged
from .curves import Floats, reliability, rocs
from .words import figure_text

Plot = tuple[str, Markup, str]  # title, drawing, note


def roc_plots(judged: Judged, most: int) -> list[tuple[str, Markup]]:
    """[(label, drawing)], of the labels with most items, in their order.

    Args:
        judged: scores and truth.
        most: how many to draw.
    """
    curves = rocs(judged)
    often = sorted(curves, key=lambda label: -(judged.truth[:, judged.labels.index(label)] == 1).sum())[:most]
    return [(label, svg(_roc(curve), f"ROC of {label}")) for label, curve in curves.items() if label in often]


def _roc(curve: tuple[Floats, Floats]) -> Figure:
    figure, axes = new_axes(square=True, size=(2.4, 2.4))
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1)
    axes.plot(*curve, color=BUNDLE)
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel("true-positive rate")
    return figure


def reliability_plot(judged: Judged) -> Plot:
    """How often what was stated with a probability was so."""
    bins = reliability(judged)
    figure, axes = new_axes(square=True)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1)
    axes.plot(bins.stated, bins.came_true, color=BUNDLE, linewidth=1)
    axes.scatter(bins.stated, bins.came_true, s=12 + 150 * bins.count / bins.count.max(), color=BUNDLE, alpha=0.8)
    axes.set_xlabel("probability of the best label" if judged.one else "probability of a finding")
    axes.set_ylabel("share of right answers" if judged.one else "share that has it")
    of = "The best label of each image" if judged.one else "All findings of all images together"
    note = (
        f"{of}, by stated probability; a larger dot is more of them. On the line a stated probability is true, below it "
        "the model is too sure."
    )
    return "Reliability", svg(figure, "Reliability"), note


def shares_plot(shares: Mapping[str, Any], headline: str) -> Plot | None:
    """The main figure by how many images a probe was fitted on; None where fewer than two shares have it."""
    points = [
        (share["trained_on"], share["figures"][headline])
        for share in shares.values() if share.get("figures", {}).get(headline, {}).get("value") is not None
    ]  # fmt: skip
    if len(points) < 2:
        return None
    figure, axes = new_axes()
    x, y = [count for count, _ in points], [one["value"] for _, one in points]
    known = [(count, one) for count, one in points if one["low"] is not None]
    axes.vlines(
        [count for count, _ in known], [one["low"] for _, one in known], [one["high"] for _, one in known],
        color=REFERENCE, label="95% interval",
    )  # fmt: skip
    axes.plot(x, y, "o-", color=BUNDLE, markersize=4, label=figure_text(headline))
    axes.set_xscale("log")
    axes.set_xticks(x, [f"{count:,}" for count in x])
    axes.minorticks_off()
    axes.set_xlabel("labelled images that the probe was fitted on")
    axes.set_ylabel(figure_text(headline))
    legend_below(figure)
    note = "How many labelled images the embedding needs: the flatter the line ends, the less more labels would help."
    return "Probe by number of labels", svg(figure, "Probe by number of labels"), note


def subgroup_plot(figures: Sequence[Mapping[str, Any]], headline: str, overall: Mapping[str, Any]) -> Plot | None:
    """The main figure of each subgroup with its interval, by the number that the table gives it; None of fewer than two."""
    known = [(number, one) for number, one in enumerate(figures, 1) if one["value"] is not None]
    if len(known) < 2:
        return None
    figure, axes = new_axes(size=(5.6, 1.6 + 0.25 * len(figures)))
    axes.axvline(overall["value"], color=REFERENCE, linewidth=1, label="all items")
    for number, one in known:
        if one["low"] is not None:
            axes.hlines(number, one["low"], one["high"], color=BUNDLE)
        axes.plot([one["value"]], [number], "o", color=BUNDLE, markersize=5)
    axes.set_yticks(range(1, len(figures) + 1))
    axes.set_ylim(len(figures) + 0.6, 0.4)
    axes.set_xlabel(f"{figure_text(headline)}, 95% interval")
    axes.set_ylabel("row of the table")
    legend_below(figure)
    note = "Intervals that overlap may differ by chance; small subgroups have wide ones."
    return "Subgroups", svg(figure, "Subgroups"), note
