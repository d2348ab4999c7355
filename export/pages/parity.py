"""The parity report as one self-contained HTML page: tables by jinja2, plots by matplotlib as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from ...runtime.bundles.parity_report import ParityReport
from .plots import BUNDLE, REFERENCE, new_axes, pages, svg

_ENCODER_HOPS = (
    ("pytorch_to_fp32", REFERENCE, "PyTorch → exported fp32"),
    ("fp32_to_bundle", BUNDLE, "exported fp32 → bundle"),
)

_GENERATOR_HOP = (("pytorch_to_bundle", BUNDLE, "PyTorch → bundle"),)


def render_parity(report: ParityReport, beside: Sequence[ParityReport] = ()) -> str:
    """The whole page as text; it loads nothing from anywhere.

    Args:
        report: what the page is about.
        beside: reports of other bundles of the same model, drawn into the plot of distance against size.
    """
    if report.kind == "generator":
        made, template = _generator_plots(report, beside), "parity_generator.html.jinja"
    else:
        made, template = _encoder_plots(report), "parity_encoder.html.jinja"
    names = {"text": "held-back text", "image": "with an image", "baseline": "text, llama.cpp without a matrix"}
    return pages().get_template(template).render(
        report=report, plots=[(title, svg(figure), note) for title, figure, note in made],
        tasks=("accuracy", "auc", "ece"),
        divergences=[(name, report.figures[key]) for key, name in names.items() if key in report.figures],
    )  # fmt: skip


def _encoder_plots(report: ParityReport) -> list[tuple[str, Figure, str]]:
    plots = [
        (
            f"Error by block, {tower} tower", _stage_plot(stages, _ENCODER_HOPS),
            "Norm of the error over the norm of the value after each block. Blue: the exporter's share. "
            "Orange: what quantization adds. No error at all is drawn at 1e-9.",
        )
        for tower, stages in report.stages.items()
    ]  # fmt: skip
    note = "Softmax probability of every image and label, original against bundle. On the line they are equal."
    plots.append(("Scores", _scatter(report.plots["scores"]), note))
    if "roc" in report.plots:
        plots.append(("ROC", _roc_plot(report.plots["roc"]), "Macro average over the labels, one against the rest."))
    if "speed" in report.figures:
        note = (
            "Towers against fp32, and one image against PyTorch in this very run (a shared machine: for orientation)."
        )
        plots.append(("Size and time", _bars(report.figures), note))
    elif "ratio_to_fp32" in report.figures["size"]:
        plots.append(("Size", _bars(report.figures), "Towers against fp32. Time on a device can't be measured here."))
    return plots


def _generator_plots(report: ParityReport, beside: Sequence[ParityReport]) -> list[tuple[str, Figure, str]]:
    note = "Norm of the error over the norm of the value after each block."
    plots = [
        (
            f"Error by block, {part}",
            # An ONNX tower's error is known by its two causes; llama.cpp's graph has no full-precision twin beside it.
            _stage_plot(stages, _ENCODER_HOPS if "fp32_to_bundle" in stages[0] else _GENERATOR_HOP),
            note,
        )
        for part, stages in report.stages.items()
    ]
    note = "Share of positions at which both find the same next token likeliest, by place in the prompt."
    plots.append(("Same first choice by position", _position_plot(report.plots["by_position"]), note))
    note = "Mean KL divergence on held-back text against bits a weight of the language model; lower left is better."
    plots.append(("Distance against size", _size_plot([report, *beside]), note))
    return plots


def _position_plot(points: dict[str, list[float]]) -> Figure:
    figure, axes = new_axes()
    axes.plot(points["place"], points["same_top"], "o-", color=BUNDLE, markersize=4)
    axes.set_ylim(min(0.9, *points["same_top"]) - 0.02, 1.005)
    axes.set_xlabel("position in the prompt, tokens")
    axes.set_ylabel("same first choice")
    return figure


def _size_plot(reports: Sequence[ParityReport]) -> Figure:
    figure, axes = new_axes()
    for report in reports:
        x, y = report.figures["size"]["bits_per_weight"], report.figures["text"]["kld"]["mean"]
        axes.plot([x], [max(y, 1e-7)], "o", color=BUNDLE, markersize=6)
        axes.annotate(
            report.recipes["language"], (x, max(y, 1e-7)), textcoords="offset points", xytext=(6, 4), fontsize=8
        )
        if "baseline" in report.figures:
            axes.plot([x], [report.figures["baseline"]["kld"]["mean"]], "x", color=REFERENCE, markersize=6)
    axes.plot([], [], "o", color=BUNDLE, label="bundle")
    axes.plot([], [], "x", color=REFERENCE, label="llama.cpp without a matrix")
    axes.set_yscale("log")
    axes.set_xlabel("bits a weight")
    axes.set_ylabel("mean KL divergence")
    axes.margins(0.18)
    axes.legend(frameon=False)
    return figure


def _stage_plot(stages: list[dict[str, Any]], hops: Sequence[tuple[str, str, str]]) -> Figure:
    figure, axes = new_axes()
    x = range(len(stages))
    floor = 1e-9  # a stage without any error still has a place on the logarithmic axis
    for key, colour, label in hops:
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
    figure, axes = new_axes()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    axes.scatter(points[0], points[1], s=9, alpha=0.5, color=BUNDLE, edgecolors="none")
    axes.set_xlabel("PyTorch")
    axes.set_ylabel("bundle")
    axes.set_aspect("equal")
    return figure


def _roc_plot(curves: dict[str, list[list[float]]]) -> Figure:
    figure, axes = new_axes()
    for (side, (false, true)), colour, style in zip(curves.items(), (REFERENCE, BUNDLE), ("-", "--"), strict=True):
        axes.plot(false, true, style, color=colour, label="PyTorch" if side == "reference" else side)
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel("true-positive rate")
    axes.set_aspect("equal")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _bars(figures: dict[str, Any]) -> Figure:
    figure, axes = new_axes()
    values = {}
    if "speed" in figures:
        values["time of an image\n(PyTorch = 1)"] = figures["speed"]["ratio_to_pytorch"]
    if "ratio_to_fp32" in figures["size"]:
        values = {"size of the towers\n(fp32 = 1)": figures["size"]["ratio_to_fp32"], **values}
    bars = axes.barh(list(values), list(values.values()), color=BUNDLE, height=0.5)
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.axvline(1, color=REFERENCE, linewidth=1)
    axes.set_xlim(0, max([1.15, *(value * 1.2 for value in values.values())]))
    return figure
