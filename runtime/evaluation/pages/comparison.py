"""The page of a comparison: which run to ship, what each costs, and what changed, as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...pages.templates import Head, templates_of
from .comparison_plots import cost_plots
from .opening import NOT_RECORDED
from .words import FEWER_IS_BETTER, MEANINGS, METHODS, count_text, figure_text, listed

# Classes of the pages' style.
_TONES = {"no worse": "pass", "worse": "fail", "not clear": "warn", "first": "none"}


def render_comparison(facts: Mapping[str, Any]) -> str:
    """The page as text; it loads nothing from anywhere.

    Args:
        facts: what `medge compare --json` prints.
    """
    first, *others = facts["results"]
    task = facts["task"]
    status, tone = _status(facts["choice"])
    numbered = {result["name"]: number for number, result in enumerate(facts["results"], 1)}
    return (
        templates_of("medge.runtime.evaluation.pages").get_template("comparison.html.jinja").render(
            head=Head(f"{task['title'] or task['name']}: {len(facts['results'])} runs", _facts(facts)), facts=facts, task=task,
            status=status, tone=tone, first=first, others=others, numbered=numbered, headline=facts["headline"],
            asked=f"Task {task['name']}, {task['method']}.", how=METHODS.get(task["method"], task["method"]),
            left_out=[one for result in others if (one := _left_out(result, first))], plots=cost_plots(facts),
            tones=_TONES, meanings=MEANINGS, figure_text=figure_text, fewer=FEWER_IS_BETTER, not_recorded=NOT_RECORDED,
            signed=signed,
        )
    )  # fmt: skip


def _status(choice: Mapping[str, Any]) -> tuple[str, str]:
    if choice["margin"] is None:
        return "No margin was named", "neutral"
    if choice["ship"] is None:
        return "Nothing to ship", "bad"
    if "not clear" in choice["standing"].values():
        if choice["standing"][choice["ship"]] == "first":
            return "Not clear yet", "warn"
        return "Decided as far as these items can tell", "warn"
    return "Decided", "good"


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    told = [
        ("data", facts["task"]["source"]),
        ("drawn", "all items" if facts["limit"] is None else f"{facts['limit']:,} at random, seed {facts['seed']}"),
        ("margin", "none" if facts["choice"]["margin"] is None else f"{facts['choice']['margin']:g}"),
    ]
    return [(name, text) for name, text in told if text]


def _left_out(result: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """Items that one of two runs lacks; "" where both have all."""
    counts = result["against_first"]["items"]
    lacks = [
        f"{count_text(counts[key], 'item')} in {name} only"
        for key, name in (("only_in_this", result["name"]), ("only_in_first", first["name"])) if counts[key]
    ]  # fmt: skip
    if not lacks:
        return ""
    return f"{listed(lacks)}; the difference is over the {counts['in_both']:,} that both have."


def signed(value: float | None) -> str:
    """ "+0.013", "−0.020"."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")
