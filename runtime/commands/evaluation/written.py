"""What a run writes into its folder: the file of items, and `metrics.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .... import __version__
from ...bundles.atomic import replace_text
from ...bundles.bundle import Bundle
from ...bundles.manifest import MANIFEST, sha256_file, sha256_json
from ...console.layouts import TABLES, Columns, Row, read_rows
from ...console.terminal import SCHEMA_VERSION
from ...evaluation.task import Named, NamedQuestions
from .given import Given

METRICS = "metrics.json"


def items_file(place: Path, form: str | None) -> Path:
    """The file of items: of the form that was asked for, else of the one that is there, else of the best that can be written."""
    if form is not None:
        return place / f"items.{form}"
    for ending in TABLES:
        if any((place / name).exists() for name in (f"items{ending}", f".items{ending}.rows")):
            return place / f"items{ending}"
    return place / ("items.parquet" if find_spec("pyarrow") is not None else "items.csv")


def same_of(bundle: Bundle, named: Named | NamedQuestions, *question: Any) -> dict[str, Any]:
    """The columns that are the same in every row; two files with the same `made_with` answer the same question."""
    made_with = sha256_json([sha256_file(bundle.folder / MANIFEST), *question])
    return {"bundle": bundle.manifest.name, "task": named.name, "made_with": made_with[:16]}


def rows_of(file: Path, columns: Columns, keys: Iterable[str]) -> list[Row]:
    """The rows of these items; the file may hold more, of a run with a higher limit."""
    wanted = set(keys)
    return [row for row in read_rows(file, columns) if row["id"] in wanted]


def seconds_of(rows: Sequence[Row]) -> dict[str, float]:
    """How long an item took; empty where there is none."""
    return {"seconds_an_item": sum(float(row["seconds"]) for row in rows) / len(rows)} if rows else {}


def facts_of(bundle: Bundle, given: Given, named: Named | NamedQuestions, method: str) -> dict[str, Any]:
    """What `metrics.json` says of every run: of which bundle it is, and what was asked."""
    manifest, task = bundle.manifest, named.task
    return {
        "bundle": manifest.name, "medge_version": __version__,
        "model": {
            "parity": manifest.status, "recipes": {tower: facts.recipe for tower, facts in manifest.towers.items()},
            "bytes": sum(map(bundle.tower_bytes, manifest.towers.values())),
        },
        "task": {
            "name": named.name, "title": task.title, "form": task.form, "source": task.source, "method": method,
            "protocol": task.protocol, "absent": task.absent,
        },
        "limit": given.limit, "seed": given.seed, "no_names": given.no_names,
    }  # fmt: skip


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write what is known of a run as JSON, whole or not at all."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **facts}, indent=2, ensure_ascii=False, allow_nan=False)
    replace_text(path, text + "\n")
