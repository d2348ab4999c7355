"""The parity report as one self-contained HTML page: tables by jinja2, plots by matplotlib as inline SVG."""

from __future__ import annotations

import io
from importlib.resources import files
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from ..runtime.report import ParityReport

REFERENCE, BUNDLE = "#4c6a92", "#c7622e"


def render_page(report: ParityReport) -> str:
    """The whole page as text; it loads nothing from anywhere."""
    source = files(__package__).joinpath("report_page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    plots = [(title, _svg(figure), note) for title, figure, note in _plots(report)]
    return environment.from_string(source).render(report=report, plots=plots, tasks=("accuracy", "auc", "ece"))


def _plots(report: ParityReport) -> list[tuple[str, Figure, str]]:
    plots = [
        (
            f"Error by block, {tower} tower", _stage_plot(stages),
            "Norm of the error over the norm of the value after each block. Blue: the exporter's share. "
            "Orange: what quantization adds. No error at all is drawn at 1e-9.",
        )
        for tower, stages in report.stages.items()
    ]  # fmt: skip
    note = "Softmax probability of every image and label, original against bundle. On the line they are equal."
    plots.append(("Scores", _scatter(report.plots["scores"]), note))
    if "roc" in report.plots:
        plots.append(("ROC", _roc_plot(report.plots["roc"]), "Macro average over the labels, one against the rest."))
    note = "Towers against fp32, and one image against PyTorch in this very run (a shared machine: for orientation)."
    plots.append(("Size and time", _bars(report.figures), note))
    return plots


def _axes(width: float = 5.6) -> tuple[Figure, Any]:
    figure, axes = plt.subplots(figsize=(width, 3.4), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _stage_plot(stages: list[dict[str, Any]]) -> Figure:
    figure, axes = _axes()
    x = range(len(stages))
    floor = 1e-9  # a stage without any error still has a place on the logarithmic axis
    for key, colour, label in (
        ("pytorch_to_fp32", REFERENCE, "PyTorch → fp32 ONNX"),
        ("fp32_to_bundle", BUNDLE, "fp32 ONNX → bundle"),
    ):
        axes.plot(x, [max(row[key], floor) for row in stages], "o-", color=colour, label=label, markersize=4)
    axes.set_yscale("log")
    names = [row["stage"] for row in stages]
    step = max(1, len(names) // 10)
    ticks = sorted({*range(0, len(names), step), len(names) - 1})
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=40, ha="right")
    axes.set_ylabel("relative error")
    axes.legend(frameon=False)
    return figure


def _scatter(points: list[list[float]]) -> Figure:
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    axes.scatter(points[0], points[1], s=9, alpha=0.5, color=BUNDLE, edgecolors="none")
    axes.set_xlabel("PyTorch")
    axes.set_ylabel("bundle")
    axes.set_aspect("equal")
    return figure


def _roc_plot(curves: dict[str, list[list[float]]]) -> Figure:
    figure, axes = _axes()
    for (side, (false, true)), colour, style in zip(curves.items(), (REFERENCE, BUNDLE), ("-", "--"), strict=True):
        axes.plot(false, true, style, color=colour, label="PyTorch" if side == "reference" else side)
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel("true-positive rate")
    axes.set_aspect("equal")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _bars(figures: dict[str, Any]) -> Figure:
    figure, axes = _axes()
    values = {"time of an image\n(PyTorch = 1)": figures["speed"]["ratio_to_pytorch"]}
    if "ratio_to_fp32" in figures["size"]:
        values = {"size of the towers\n(fp32 = 1)": figures["size"]["ratio_to_fp32"], **values}
    bars = axes.barh(list(values), list(values.values()), color=BUNDLE, height=0.5)
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.axvline(1, color=REFERENCE, linewidth=1)
    axes.set_xlim(0, max(1.15, *(value * 1.2 for value in values.values())))
    return figure


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "medge", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])
