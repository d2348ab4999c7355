"""Time an encoder's bundle, and other engines beside it: cold start, latency, throughput and peak memory."""

from __future__ import annotations

from pathlib import Path

from ..bundles.manifest import Manifest
from ..device.cpu import usable_cores
from ..progress import Progress, no_progress
from .asked import Asked, Benched
from .in_turns import bundle_command, compare


def bench(folder: Path, asked: Asked, progress: Progress = no_progress) -> Benched:
    """Time a bundle's vision tower, an ONNX file also with `--fast`, in turn with the engines that are asked for."""
    from rich.table import Table

    manifest = Manifest.read(folder)
    name = f"medge {manifest.towers['vision'].recipe}"
    engines = {name: bundle_command(str(folder), asked.batch)}
    if manifest.opened == "onnx":  # no other engine knows it
        engines[f"{name} --fast"] = bundle_command(str(folder), asked.batch, fast=True)
    engines |= {engine: [*command, manifest.profile] for engine, command in asked.against.items()}
    results = compare(engines, rounds=asked.rounds, batch=asked.batch, progress=progress)
    threads = "1 thread" if usable_cores() == 1 else f"{usable_cores()} threads"
    table = Table(title=f"{manifest.name}, batch {asked.batch}, {threads}, {len(results[0].took)} rounds in turn")
    for column in ("engine", "cold start s", "latency s", "CPU s", "images/s", "peak MB", "time ratio"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    facts = []
    for result in results:
        fact = result.facts_beside(results[0])
        facts.append(fact)
        table.add_row(
            result.name, f"{result.cold_start:.2f}", f"{result.median:.4f}",
            f"{fact['cpu_seconds_median']:.4f}", f"{asked.batch / result.median:.2f}",
            f"{result.peak_bytes / 1e6:.0f}", result.told_beside(results[0]),
        )  # fmt: skip
    return Benched(facts, table)
