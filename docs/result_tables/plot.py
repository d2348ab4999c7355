"""A scatter plot as SVG inside a page: drawn by this file alone, so that the same figures give the same bytes everywhere."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 64, 16, 28, 44
LABEL = 56  # how wide a point's name may be
# Marks differ by form as well as by colour, which is legible on light and on dark.
MARKS: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="none" stroke="#c2410c" stroke-width="2"/>',
    lambda x, y: f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" fill="#0d9488"/>',
    lambda x, y: f'<path d="M{x:.1f} {y - 6:.1f}l6 11h-12z" fill="#6d5bd0"/>',
)


@dataclass(frozen=True)
class Point:
    """One figure: its place, and the word beside it."""

    x: float
    y: float
    name: str = ""


def scatter(
    series: Mapping[str, Sequence[Point]], *, title: str, x_name: str, x_ticks: Sequence[float], y_ticks: Sequence[float],
    logarithmic: bool = False,
) -> str:  # fmt: skip
    """The plot of at most three series; axes run from the first tick to the last."""
    bend: Callable[[float], float] = log if logarithmic else float

    def across(value: float) -> float:
        return LEFT + (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - LEFT - RIGHT)

    def down(value: float) -> float:
        share = (bend(value) - bend(y_ticks[0])) / (bend(y_ticks[-1]) - bend(y_ticks[0]))
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}" font-size="12" fill="currentColor">',
        f'<text x="{LEFT}" y="16" font-weight="bold">{html.escape(title)}</text>',
        f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x_name)}</text>',
    ]
    for tick in y_ticks:
        y = down(tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="currentColor" stroke-opacity="0.2"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        parts.append(f'<text x="{across(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    taken: list[tuple[float, float]] = []
    for number, (name, points) in enumerate(series.items()):
        y = TOP + 16 + 18 * number
        parts.append(MARKS[number](right - 200, y - 4) + f'<text x="{right - 188}" y="{y}">{html.escape(name)}</text>')
        for point in points:
            x, y_at = across(point.x), down(point.y)
            parts.append(MARKS[number](x, y_at))
            if point.name:
                parts.append(_beside(x, y_at, point.name, taken))
    return "\n".join([*parts, "</svg>"])


def _beside(x: float, y: float, name: str, taken: list[tuple[float, float]]) -> str:
    """A point's name to its right, or to its left where another point's name stands so near that they would cover each other."""
    left = any(abs(x - other) < LABEL and abs(y - height) < 12 for other, height in taken)
    taken.append((x - LABEL if left else x, y))
    anchor, at = ("end", x - 8) if left else ("start", x + 8)
    return f'<text x="{at:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}" font-size="10">{html.escape(name)}</text>'
