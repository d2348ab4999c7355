"""What a run writes into its folder: the file of items, and `metrics.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .... import __version__
from ...bundles.atomic import replace_text
from ...bundles.manifest import sha256_json
from ...bundles.origin import today
from ...bundles.typed_json import parse
from ...console.layouts import TABLES, Columns, Row, read_rows
from ...console.terminal import SCHEMA_VERSION
from ...device.memory import peak_memory
from ...evaluation.task import Named, NamedQuestions
from .given import Given
from .subject import Model

METRICS = "metrics.json"


def items_file(place: Path, form: str | None) -> Path:
    """The file of items: of the form that was asked for, else of the one that is there, else of the best that can be written."""
    if form is not None:
        return place / f"items.{form}"
    for ending in TABLES:
        if any((place / name).exists() for name in (f"items{ending}", f".items{ending}.rows")):
            return place / f"items{ending}"
    return place / ("items.parquet" if find_spec("pyarrow") is not None else "items.csv")


def readings_file(items: Path, reader: str) -> Path:
    """The file of what a model that reads reports has found, beside the file of items."""
    return items.with_name(f"{reader}{items.suffix}")


def same_of(model: Model, named: Named | NamedQuestions, *question: Any) -> dict[str, Any]:
    """The columns that are the same in every row; two files with the same `made_with` answer the same question."""
    made_with = sha256_json([model.identity, *question])
    return {"bundle": model.name, "task": named.name, "made_with": made_with[:16]}


def rows_of(file: Path, columns: Columns, keys: Iterable[str]) -> list[Row]:
    """The rows of these items; the file may hold more, of a run with a higher limit."""
    wanted = set(keys)
    return [row for row in read_rows(file, columns) if row["id"] in wanted]


def seconds_of(rows: Sequence[Row]) -> dict[str, float]:
    """How long an item took; empty where there is none."""
    return {"seconds_an_item": sum(float(row["seconds"]) for row in rows) / len(rows)} if rows else {}


def facts_of(model: Model, given: Given, named: Named | NamedQuestions, method: str, *, scored: int) -> dict[str, Any]:
    """What `metrics.json` says of every run: of which model it is, and what was asked.

    Args:
        model: what is told of the model.
        given: what a user gave.
        named: the task.
        method: how it was asked.
        scored: how many items this process has scored; an earlier one may have scored the others.
    """
    task = named.task
    told = {"parity": model.parity, "recipes": dict(model.recipes), "bytes": model.bytes}
    return {
        "bundle": model.name, "date": today(), "medge_version": __version__,
        "model": told | {"peak_bytes": _peak_bytes(given, model.name, told, scored)},
        "task": {
            "name": named.name, "title": task.title, "form": task.form, "source": task.source, "method": method,
            "protocol": task.protocol, "absent": task.absent,
        },
        "limit": given.limit, "seed": given.seed, "no_names": given.no_names,
    }  # fmt: skip


def _peak_bytes(given: Given, name: str, model: Mapping[str, Any], scored: int) -> int | None:
    """The most memory that the process of the model has taken; of several that did the run, the most; None where unknown."""
    found = [peak_memory()] if scored and given.counts_memory else []
    earlier = {} if given.force else _earlier(given.place / METRICS)
    if earlier.get("bundle") == name and all(earlier["model"].get(key) == value for key, value in model.items()):
        found += [earlier["model"]["peak_bytes"]] if earlier["model"].get("peak_bytes") else []
    return max(found, default=None)


def _earlier(path: Path) -> dict[str, Any]:
    """What an earlier process has written into the same folder; nothing where that can't be read."""
    try:
        found = parse(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("model"), dict) else {}


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write what is known of a run as JSON, whole or not at all."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **facts}, indent=2, ensure_ascii=False, allow_nan=False)
    replace_text(path, text + "\n")
