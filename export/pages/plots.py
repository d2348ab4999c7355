"""What the pages share: the look of their plots, and how they are filled."""

from __future__ import annotations

import atexit
import io
import os
import shutil
import tempfile
from typing import Any

if "MPLCONFIGDIR" not in os.environ:  # matplotlib would leave a list of fonts in the user's cache folder
    os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="medge-matplotlib-")
    atexit.register(shutil.rmtree, os.environ["MPLCONFIGDIR"], ignore_errors=True)

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

REFERENCE, BUNDLE = "#4c6a92", "#c7622e"


def pages() -> Environment:
    """The pages' templates; one that names what does not exist fails."""
    return Environment(
        loader=PackageLoader("medge.export.pages", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def new_axes(width: float = 5.6) -> tuple[Figure, Any]:
    """A figure with one pair of axes in the pages' style."""
    figure, axes = plt.subplots(figsize=(width, 3.4), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def svg(figure: Figure) -> Markup:
    """A figure as inline SVG, the same bytes for the same figure; it is closed."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "medge", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])
