"""What a comparison of finished runs says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .choice import chosen
from .runs import Run, compared_with


def compared(runs: Sequence[Run], margin: float | None) -> dict[str, Any]:
    """Runs, the difference of each to the first, and which to ship, for JSON.

    Args:
        runs: at least two, of the same task.
        margin: the loss of the main figure that can be borne; None where nobody has named one.

    Raises:
        TaskError: they were asked different things, or of different items.
        StorageError: a file of items is damaged.
    """
    first = runs[0].metrics
    headline = first.task.headline
    results = [{"name": name, **_told(run, runs[0])} for name, run in zip(_names(runs), runs, strict=True)]
    return {
        "task": {name: getattr(first.task, name) for name in ("name", "title", "form", "method", "source", "protocol")},
        "limit": first.limit, "seed": first.seed, "headline": headline, "results": results,
        "choice": chosen(results, headline, margin),
    }  # fmt: skip


def _names(runs: Sequence[Run]) -> list[str]:
    """The runs' names: their bundles', or, where two have one name, their folders'."""
    bundles = [run.metrics.bundle for run in runs]
    return bundles if len(set(bundles)) == len(bundles) else [str(run.place) for run in runs]


def _told(run: Run, first: Run) -> dict[str, Any]:
    metrics, model = run.metrics, run.metrics.model
    return {
        "out": str(run.place), "bundle": metrics.bundle, "recipes": model.recipes, "bytes": model.bytes,
        "peak_bytes": model.peak_bytes, "parity": model.parity, "seconds_an_item": metrics.seconds_an_item,
        "evaluated": metrics.items.evaluated,
        "figures": {name: asdict(figure) for name, figure in metrics.figures.items()},
        "against_first": None if run is first else compared_with(first, run),
    }  # fmt: skip
