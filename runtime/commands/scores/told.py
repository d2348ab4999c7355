"""How a calibration of scores is told on the terminal."""

from __future__ import annotations

from rich.table import Table

from ...console.terminal import out, warn
from ...decisions.facts import Kind, Rate, ScoreFacts


def tell(facts: ScoreFacts, title: str = "") -> None:
    """Print what a calibration gives on images on which it was not fitted."""
    for kind in facts.kinds:
        named = kind.name or "all pictures"
        out.print(_table(facts, kind, f"{named}: {kind.images} images{', ' if title else ''}{title}"))
        if kind.coverage is not None:
            out.print(f"the true label is among the likely ones: {rate_text(kind.coverage)}, "
                      f"{facts.wanted.coverage:.3g} was asked for", soft_wrap=True)  # fmt: skip
        if kind.error_before is not None and kind.error_after is not None:
            out.print(f"calibration error: {kind.error_before:.3f} before, {kind.error_after:.3f} now")
        few = [label for label, point in zip(facts.labels, kind.points, strict=True)
               if point is not None and None in (point.absent_below, point.present_above)]  # fmt: skip
        if few and not title:
            warn(f"{named}: too few images of {', '.join(few)}, or without it, for what was asked: it can't be called "
                 "absent, or not present")  # fmt: skip
    if facts.limit is None:
        if not title:
            warn("too few images to flag pictures unlike these")
    elif facts.flagged is not None:
        out.print(f"flagged as unlike, though they are of these kinds: {rate_text(facts.flagged)}", soft_wrap=True)


def _table(facts: ScoreFacts, kind: Kind, title: str) -> Table:
    table = Table("label", "absent below", "present above", "sensitivity", "specificity", "uncertain", title=title)
    for label, point in zip(facts.labels, kind.points, strict=True):
        if point is None:
            continue
        table.add_row(
            label, _number(point.absent_below), _number(point.present_above), rate_text(point.sensitivity),
            rate_text(point.specificity), "-" if point.uncertain is None else f"{point.uncertain.value:.1%}",
        )  # fmt: skip
    return table


def rate_text(rate: Rate | None) -> str:
    """A share with its 95% interval."""
    return "-" if rate is None else f"{rate.value:.3f} ({rate.low:.2f}-{rate.high:.2f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
