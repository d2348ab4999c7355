"""Fill the README's tables from benchmarks/results; a test fails when the two differ.

python docs/make_tables.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def parity() -> str:
    head = ["recipe", "test images", "centred cosine mean", "min", "text min", "flips", "PyTorch", "bundle",
            "AUC difference", "size to fp32", "gates"]  # fmt: skip
    rows = [
        [
            f"`{row['recipe']}`", row["images"], f"{row['centred_mean']:.5f}", f"{row['centred_min']:.5f}",
            f"{row['text_centred_min']:.5f}", f"{100 * row['flips']:.2f}%", f"{row['task']} {_interval(row['reference'])}",
            _interval(row["bundle"]), f"{row['auc_difference']:.5f}", f"{row['size_ratio']:.2f}", row["status"],
        ]
        for row in json.loads((RESULTS / "standin_parity.json").read_text())
    ]  # fmt: skip
    return table(head, rows)


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def full_size() -> str:
    facts = json.loads((RESULTS / "full_size.json").read_text())
    sizes = [
        [f"`{name}`", f"{size['bytes'] / 1e6:.0f}", f"{size['ratio']:.3f}"] for name, size in facts["sizes"].items()
    ]
    return "\n\n".join(
        [
            table(["recipe", "both towers MB", "to fp32"], sizes),
            f"Making them took {facts['export_peak_bytes'] / 1e9:.0f} GB of memory at its peak.",
            "Vision tower in fp32, one image (a cold start says little here, since the others export first):",
            table(["engine", "seconds", "to medge"], _ratios(facts["engines"], "latency_seconds_median")),
            "Classifying with a baked label bank, against the same answer from transformers in fp32:",
            _task(facts["task"]),
        ]
    )


def _ratios(rows: Sequence[dict[str, Any]], key: str) -> list[list[str]]:
    return [[row["engine"], f"{row[key]:.1f}", f"{row[key] / rows[0][key]:.2f}"] for row in rows]


def _task(rows: Sequence[dict[str, Any]]) -> str:
    first = rows[0]
    keys = ("cold_start_seconds", "peak_bytes", "latency_seconds_median")
    body = [
        [
            row["engine"], f"{row[keys[0]]:.1f}", f"{row[keys[0]] / first[keys[0]]:.2f}",
            f"{row[keys[1]] / 1e6:.0f}", f"{row[keys[1]] / first[keys[1]]:.2f}", f"{row[keys[2]] / first[keys[2]]:.2f}",
        ]
        for row in rows
    ]  # fmt: skip
    return table(["engine", "cold start s", "ratio", "peak memory MB", "ratio", "time of an image, ratio"], body)


def render(readme: str) -> str:
    """The README's text with both tables as the results are now."""
    for name, body in (("parity", parity()), ("full-size", full_size())):
        marked = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        readme, count = marked.subn(lambda match, body=body: f"{match[1]}{body}{match[2]}", readme)
        assert count == 1, f"README.md needs one pair of marks <!-- {name} --> and <!-- /{name} -->"
    return readme


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(render(path.read_text()))
