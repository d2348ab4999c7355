"""How plots look on every page: matplotlib's figures as inline SVG in the page's own colours. Needs `medge[pages]`.

Nothing else imports matplotlib: who loads it first decides where it keeps its list of fonts.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
from typing import Any

from ..bundles.claim import scratch_folder

if "MPLCONFIGDIR" not in os.environ:  # matplotlib would leave a list of fonts in the user's cache folder
    # It makes the list anew in each process, and where that takes seconds, it warns.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    _at_end = contextlib.ExitStack()
    os.environ["MPLCONFIGDIR"] = str(_at_end.enter_context(scratch_folder()))
    atexit.register(_at_end.close)
    try:
        import matplotlib.font_manager  # which reads the variable, once
    finally:  # a process that this one starts would write where this one removes
        del os.environ["MPLCONFIGDIR"]

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

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


def new_axes(*, square: bool = False, size: tuple[float, float] | None = None) -> tuple[Figure, Any]:
    """A figure with one pair of axes in the pages' style.

    Args:
        square: the axes go from 0 to 1 both ways.
        size: width and height in inches; that of the other plots where None.
    """
    with matplotlib.rc_context({"text.color": INK, "axes.labelcolor": INK, "xtick.color": SOFT, "ytick.color": SOFT}):
        figure = Figure(figsize=size or ((4.8, 5.0) if square else (5.6, 3.6)), layout="constrained")
        axes = figure.subplots()
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
    """A figure as inline SVG in the page's colours, the same bytes for the same figure."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "medge", "svg.fonttype": "path"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    for colour, name in _VARIABLES.items():
        text = text.replace(colour, f"var(--{name})")
    # matplotlib escapes what it draws, and the title is escaped above.
    return Markup(text)  # nosec B704
