"""Which recipe to ship: the smallest run that, within a margin that was named, is no worse than the first.

A run is no worse where the whole 95% interval of its paired difference lies above minus the margin (a test of non-inferiority),
and worse where it lies below. Anything else these items can't tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ....evaluation.pages.words import ORIGINAL, figure_text, listed

Result = Mapping[str, Any]
FAILED = "failed"


def chosen(results: Sequence[Result], headline: str, margin: float | None) -> dict[str, Any]:
    """What the runs say of which to ship, for JSON.

    Args:
        results: the runs, the first being what the others are compared with.
        headline: the main figure, of which more is better.
        margin: the loss of it that can be borne; None where nobody has named one.

    Returns:
        {"margin", "ship": a run's name or None, "standing": {name: one of "first", "no worse", "worse", "not clear"}, "said":
        sentences}. Without a margin nothing stands and nothing is shipped.
    """
    first, *others = results
    if margin is None:
        told = [_most_lost(result, headline, first) for result in others]
        hint = "Name the loss that you can bear, before you look: --margin 0.02."
        return {"margin": None, "ship": None, "standing": {}, "said": " ".join([*told, hint])}
    standing = {first["name"]: "first"} | {
        result["name"]: _standing(result["against_first"]["figures"][headline], margin) for result in others
    }
    by_standing = {
        kind: [result for result in others if standing[result["name"]] == kind]
        for kind in ("no worse", "not clear", "worse")
    }
    fit = [result for result in (first, *by_standing["no worse"]) if result["parity"] not in (FAILED, ORIGINAL)]
    ship = min(fit, key=_cost, default=None)
    said = [_shipped(ship, first, headline, margin), *_rest(by_standing, headline, margin)]
    if refused := [result["name"] for result in results if result["parity"] == FAILED]:
        said.append(f"Not considered, because parity with the original failed: {listed(refused)}.")
    return {"margin": margin, "ship": ship["name"] if ship else None, "standing": standing, "said": " ".join(said)}


def _standing(difference: Mapping[str, float | None], margin: float) -> str:
    low, high = difference["low"], difference["high"]
    if low is None or high is None or low == high:  # without a width it is certain of too much: no item told them apart
        return "not clear"
    return "no worse" if low >= -margin else "worse" if high < -margin else "not clear"


def _cost(result: Result) -> tuple[float, float, float]:
    """Size first, then memory, then time; what was not recorded counts as most."""
    memory, time = (
        math.inf if result[key] is None else float(result[key]) for key in ("peak_bytes", "seconds_an_item")
    )
    return float(result["bytes"]), memory, time


def _shipped(ship: Result | None, first: Result, headline: str, margin: float) -> str:
    figure = figure_text(headline)
    if ship is None:
        return f"None can be named: none is known to lose at most {margin:g} of {figure} with parity that holds."
    if ship is first:
        return f"Ship {first['name']}: no smaller run is known to lose at most {margin:g} of its {figure}."
    against = ship["against_first"]["figures"][headline]
    return (
        f"Ship {ship['name']}: it is the smallest that loses at most {margin:g} of {figure} against {first['name']} "
        f"(difference {against['value']:+.3f}, 95% interval {against['low']:+.3f} to {against['high']:+.3f})."
    )


def _rest(by_standing: Mapping[str, Sequence[Result]], headline: str, margin: float) -> list[str]:
    said = []
    if worse := [result["name"] for result in by_standing["worse"]]:
        said.append(f"Worse by more than that: {listed(worse)}.")
    if unclear := by_standing["not clear"]:
        count = min(result["against_first"]["items"]["in_both"] for result in unclear)
        names = listed([result["name"] for result in unclear])
        said.append(f"Of {names}, {count:,} items can't tell: evaluate more.")
        same = [
            result["name"] for result in unclear if result["against_first"]["figures"][headline]["low"]
            == result["against_first"]["figures"][headline]["high"]
        ]  # fmt: skip
        if same:
            said.append(f"No item tells {listed(same)} from the first, so that the interval has no width.")
    return said


def _most_lost(result: Result, headline: str, first: Result) -> str:
    low = result["against_first"]["figures"][headline]["low"]
    name, figure = result["name"], figure_text(headline)
    if low is None:
        return f"How much {figure} {name} may lose against {first['name']} these items can't tell."
    if low >= 0:
        return f"{name} loses no {figure} against {first['name']} that these items show."
    return f"{name} may lose up to {-low:.3f} of {figure} against {first['name']} (the end of its 95% interval)."
