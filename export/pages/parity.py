"""The parity report as one self-contained HTML page: tables by jinja2, plots by matplotlib as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...runtime.bundles.figures import Calibration, Curve, Curves, EncoderFigures, Places, ScorePoints, StageRow
from ...runtime.bundles.manifest import KindName
from ...runtime.bundles.parity_report import EncoderReport, GeneratorReport, ParityReport
from ...runtime.pages.drawing import BUNDLE, INK, REFERENCE, SOFT, Figure, legend_below, new_axes, svg
from ...runtime.pages.templates import Head
from .templates import origin_facts, pages
from .verdict import Verdict, encoder_verdict, generator_verdict

Plot = tuple[str, Figure, str]  # title, drawing, note


@dataclass(frozen=True)
class Page:
    """How a kind of report is shown: its template, its verdict, and what is drawn of it beside others of its kind."""

    template: str
    verdict: Callable[[Any], Verdict]
    plots: Callable[[Any, Sequence[Any]], list[Plot]]


def render_parity(
    report: ParityReport, beside: Sequence[ParityReport] = (), pictures: Mapping[int, str] | None = None
) -> str:
    """The whole page as text; it loads nothing from anywhere.

    Args:
        report: what the page is about.
        beside: reports of other bundles of the same model, drawn into the plot of distance against size.
        pictures: small copies of images, as `thumbnails` makes them; none unless the user asked for them.
    """
    page = PAGES[report.kind]
    plots = [(title, svg(figure, title), note) for title, figure, note in page.plots(report, beside)]
    head = Head(f"{report.bundle}: parity with {report.reference}", _facts(report))
    template = pages().get_template(page.template)
    return template.render(report=report, plots=plots, head=head, verdict=page.verdict(report), pictures=pictures or {})


def _facts(report: ParityReport) -> list[tuple[str, str]]:
    counts = [f"{report.images} images", *([f"{report.texts} texts"] if report.texts else [])]
    how = "held back" if report.held_back else "those of the calibration"
    return [
        *origin_facts(report.made), ("device", ", ".join(f"{key} {value}" for key, value in report.machine.items())),
        ("measured on", f"{' and '.join(counts)}, {how}"),
        *([("preprocessing", report.profile)] if report.profile else []),
    ]  # fmt: skip


def _encoder_plots(report: EncoderReport, _beside: Sequence[EncoderReport]) -> list[Plot]:
    figures, points = report.figures, report.plots
    plots = [
        (
            f"Error by block, {tower} tower", _stage_plot(stages),
            "Norm of the error over the norm of the value after each block. Blue: the exporter's share. "
            "Orange: what the recipe adds. No error at all is drawn at 1e-9.",
        )
        for tower, stages in report.stages.items()
    ]  # fmt: skip
    note = "Softmax probability of every image and label, original against bundle. On the line they are equal."
    plots.append(("Scores", _scatter(points.scores), note))
    if points.roc is not None:
        plots.append(
            (
                "ROC",
                _roc_plot(points.roc),
                "Macro average over the labels, one against the rest: the nearer to the upper left corner, the better.",
            )
        )
    if points.calibration is not None:
        note = "Share of right answers among images of about the same probability. On the line a stated probability is true."
        plots.append(("Calibration", _calibration_plot(points.calibration), note))
    speed = figures.speed
    if speed is not None and speed.ratio_to_pytorch is not None and speed.low is not None and speed.high is not None:
        note = (
            "Towers against fp32, and the time of one image against PyTorch's, in turns in this very run: 95% interval "
            f"{speed.low:.2f} to {speed.high:.2f}."
        )
        plots.append(("Size and time", _bars(figures), note))
    elif figures.size.ratio_to_fp32 is not None:
        plots.append(
            ("Size", _bars(figures), "Towers against fp32. No time was measured, or none that can be relied on.")
        )
    return plots


def _generator_plots(report: GeneratorReport, beside: Sequence[GeneratorReport]) -> list[Plot]:
    note = "Norm of the error over the norm of the value after each block."
    plots = [(f"Error by block, {part}", _stage_plot(stages), note) for part, stages in report.stages.items()]
    note = "Share of positions at which both find the same next token likeliest, by place in the prompt."
    plots.append(("Same first choice by position", _position_plot(report.plots.by_position), note))
    note = "Mean KL divergence on held-back text against bits a weight of the language model; lower left is better."
    plots.append(("Distance against size", _size_plot([report, *beside]), note))
    return plots


PAGES: dict[KindName, Page] = {
    "encoder": Page("parity_encoder.html.jinja", encoder_verdict, _encoder_plots),
    "generator": Page("parity_generator.html.jinja", generator_verdict, _generator_plots),
}


def _position_plot(points: Places) -> Figure:
    figure, axes = new_axes()
    axes.plot(points.place, points.same_top, "o-", color=BUNDLE, markersize=4)
    axes.set_ylim(min(0.9, *points.same_top) - 0.02, 1.005)
    axes.set_xlabel("position in the prompt, tokens")
    axes.set_ylabel("same first choice")
    return figure


def _size_plot(reports: Sequence[GeneratorReport]) -> Figure:
    figure, axes = new_axes()
    for report in reports:
        x, y = report.figures.size.bits_per_weight, report.figures.text.kld.mean
        axes.plot([x], [max(y, 1e-7)], "o", color=BUNDLE, markersize=6)
        axes.annotate(
            report.recipes["language"],
            (x, max(y, 1e-7)),
            textcoords="offset points",
            xytext=(6, 4),
            fontsize=8,
            color=INK,
        )
        if report.figures.baseline is not None:
            axes.plot([x], [report.figures.baseline.kld.mean], "x", color=REFERENCE, markersize=6)
    axes.plot([], [], "o", color=BUNDLE, label="bundle")
    axes.plot([], [], "x", color=REFERENCE, label="llama.cpp without a matrix")
    axes.set_yscale("log")
    axes.set_xlabel("bits a weight")
    axes.set_ylabel("mean KL divergence")
    axes.margins(0.18)
    legend_below(figure)
    return figure


def _stage_plot(stages: Sequence[StageRow]) -> Figure:
    """The error by its two causes; as a whole where no full-precision graph stands between (llama.cpp's has none)."""
    hops = {
        ("PyTorch → exported fp32", REFERENCE): [row.pytorch_to_fp32 for row in stages],
        ("exported fp32 → bundle", BUNDLE): [row.fp32_to_bundle for row in stages],
    }
    if any(error is None for errors in hops.values() for error in errors):
        hops = {("PyTorch → bundle", BUNDLE): [row.pytorch_to_bundle for row in stages]}
    figure, axes = new_axes()
    floor = 1e-9  # a stage without any error still has a place on the logarithmic axis
    for (label, colour), errors in hops.items():
        heights = [max(error or 0.0, floor) for error in errors]
        axes.plot(range(len(stages)), heights, "o-", color=colour, label=label, markersize=4)
    axes.set_yscale("log")
    names = [row.stage for row in stages]
    step = max(1, len(names) // 10)
    ticks = sorted({*range(0, len(names), step), len(names) - 1})
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=40, ha="right")
    axes.set_ylabel("relative error")
    legend_below(figure)
    return figure


def _scatter(points: ScorePoints) -> Figure:
    figure, axes = new_axes(square=True)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1)
    axes.scatter(points.reference, points.bundle, s=9, alpha=0.5, color=BUNDLE, edgecolors="none")
    axes.set_xlabel("PyTorch")
    axes.set_ylabel("bundle")
    return figure


def _roc_plot(curves: Curves) -> Figure:
    figure, axes = new_axes(square=True)
    sides: tuple[tuple[str, Curve, str, str], ...] = (
        ("PyTorch", curves.reference, "-", REFERENCE), ("bundle", curves.bundle, "--", BUNDLE),
    )  # fmt: skip
    for label, curve, style, colour in sides:
        axes.plot(curve.false_positive, curve.true_positive, style, color=colour, label=label)
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel("true-positive rate")
    legend_below(figure)
    return figure


def _calibration_plot(calibration: Calibration) -> Figure:
    figure, axes = new_axes(square=True)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1)
    for label, bins, style, colour in (
        ("PyTorch", calibration.reference, "o-", REFERENCE), ("bundle", calibration.bundle, "s--", BUNDLE),
    ):  # fmt: skip
        axes.plot(bins.probability, bins.right, style, color=colour, label=label, markersize=4)
    axes.set_xlabel("probability of the first label")
    axes.set_ylabel("share of right answers")
    legend_below(figure)
    return figure


def _bars(figures: EncoderFigures) -> Figure:
    figure, axes = new_axes()
    values = {}
    if figures.size.ratio_to_fp32 is not None:
        values["size of the towers\n(fp32 = 1)"] = figures.size.ratio_to_fp32
    if figures.speed is not None and figures.speed.ratio_to_pytorch is not None:
        values["time of an image\n(PyTorch = 1)"] = figures.speed.ratio_to_pytorch
    bars = axes.barh(list(values), list(values.values()), color=BUNDLE, height=0.5)
    axes.bar_label(bars, fmt="%.2f", padding=4, color=INK)
    axes.axvline(1, color=REFERENCE, linewidth=1)
    axes.set_xlim(0, max([1.15, *(value * 1.2 for value in values.values())]))
    return figure
