"""What the pages share: the look of their plots, and how they are filled."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...runtime.bundles.claim import scratch_folder

if "MPLCONFIGDIR" not in os.environ:  # matplotlib would leave a list of fonts in the user's cache folder
    _at_end = contextlib.ExitStack()
    os.environ["MPLCONFIGDIR"] = str(_at_end.enter_context(scratch_folder()))
    atexit.register(_at_end.close)
    import matplotlib.font_manager  # which reads the variable, once

    # A process that this one starts would write where this one removes.
    del os.environ["MPLCONFIGDIR"]

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from ...runtime.bundles.figures import EncoderFigures, GeneratorFigures, read_figure
from ...runtime.bundles.origin import Origin
from .verdict import Verdict
from .words import figure_words, interval, measured, number, percent, three

REFERENCE, BUNDLE, THIRD, FOURTH = "#4c6a92", "#c7622e", "#5c7d2f", "#8a5a9c"
INK, SOFT, RULE = "#1d2530", "#56606d", "#d5dbe2"
# The page's own colours take the places of these, so that a plot is dark where the page is.
_VARIABLES = {
    REFERENCE: "reference",
    BUNDLE: "bundle",
    THIRD: "third",
    FOURTH: "fourth",
    INK: "ink",
    SOFT: "soft",
    RULE: "rule",
}


@dataclass(frozen=True)
class Head:
    """How a page begins: its title, its verdict, and [(name, fact)]."""

    title: str
    verdict: Verdict
    facts: Sequence[tuple[str, str]]


def origin_facts(made: Origin) -> list[tuple[str, str]]:
    """When, by which medge and from which files; of more than three files the first ones."""
    hashes = [f"{name} {sha[:12]}" for name, sha in made.source.items()]
    more = f" and {len(hashes) - 3} more" if len(hashes) > 3 else ""
    return [("date", made.date), ("medge", made.medge), ("source (SHA-256)", ", ".join(hashes[:3]) + more)]


def pages() -> Environment:
    """The pages' templates; one that names what does not exist fails."""
    environment = Environment(
        loader=PackageLoader("medge.export.pages", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        number=number,
        percent=percent,
        interval=interval,
        three=three,
        measured=measured,
        words=figure_words,
        figure=_value,
    )
    return environment


def _value(figures: EncoderFigures | GeneratorFigures, path: str) -> float | None:
    """A figure's value by its path; None where it was not measured.

    Raises:
        LookupError: there is no such figure.
    """
    found = read_figure(figures, path)
    return None if found is None else found.value


def new_axes(*, square: bool = False) -> tuple[Figure, Any]:
    """A figure with one pair of axes in the pages' style; a square one goes from 0 to 1 both ways."""
    with matplotlib.rc_context({"text.color": INK, "axes.labelcolor": INK, "xtick.color": SOFT, "ytick.color": SOFT}):
        figure, axes = plt.subplots(figsize=(4.8, 5.0) if square else (5.6, 3.6), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.grid(color=RULE)
    axes.set_axisbelow(True)
    if square:
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure, axes


def legend_below(figure: Figure) -> None:
    """The legend under the axes, where it hides nothing."""
    figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=INK)


def svg(figure: Figure, title: str) -> Markup:
    """A figure as inline SVG in the page's colours, the same bytes for the same figure; it is closed."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "medge", "svg.fonttype": "path"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    for colour, name in _VARIABLES.items():
        text = text.replace(colour, f"var(--{name})")
    # matplotlib escapes what it draws, and the title is escaped above.
    return Markup(text)  # nosec B704
