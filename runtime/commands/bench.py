"""`medge bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..console import BundleArgument, JsonOption, out, print_json, progress

ENGINES = ("pytorch", "optimum", "openvino")


def bench(
    bundle: BundleArgument,
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs of each engine.")] = 10,
    batch: Annotated[int, typer.Option(min=1, help="Images in a run.")] = 1,
    against: Annotated[list[str] | None, typer.Option(help=f"Also time {', '.join(ENGINES)}; repeat it.")] = None,
    reference: Annotated[Path | None, typer.Option(help="The checkpoint, for --against.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Latency, throughput, cold start and peak memory of a bundle on this machine.

    Every engine runs in a process of its own and they take turns, so the ratios hold on a busy machine.

    Example: medge bench bundle --against pytorch --reference medsiglip-448
    """
    from rich.table import Table

    from ..benchmark import bundle_command, compare
    from ..manifest import Manifest

    manifest = Manifest.read(bundle)
    name = f"medge {manifest.towers['vision'].recipe}"
    engines = {
        name: bundle_command(str(bundle), batch),
        f"{name} --fast": bundle_command(str(bundle), batch, fast=True),
    }
    for name in against or []:
        if name not in ENGINES:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(ENGINES)}")
        if reference is None:
            raise typer.BadParameter("--against needs --reference DIR, the checkpoint")
        # By name, in another process: the runtime imports nothing of the export room.
        engines[name] = [sys.executable, "-m", "medge.export.bench_engines", name, str(reference), str(batch),
                         manifest.profile]  # fmt: skip
    with progress() as advance:
        results = compare(engines, rounds=rounds, batch=batch, progress=advance)
    if as_json:
        print_json([result.facts() for result in results])
        return
    table = Table(title=f"{manifest.name}, batch {batch}, {rounds} rounds in turn")
    for column in ("engine", "cold start s", "latency s", "images/s", "peak MB", "time ratio"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for result in results:
        table.add_row(
            result.name, f"{result.cold_start:.2f}", f"{result.median:.4f}", f"{batch / result.median:.2f}",
            f"{result.peak_bytes / 1e6:.0f}", f"{result.median / results[0].median:.2f}",
        )  # fmt: skip
    out.print(table)
