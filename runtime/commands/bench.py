"""`medge bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .console import out, print_json, progress
from .options import BundleArgument, JsonOption

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

    Every engine runs in a process of its own and they take turns, so the ratios hold on a busy machine. A language
    model is timed reading a prompt, generating, and answering a second question about the same image.

    Example: medge bench bundle --against pytorch --reference medsiglip-448
    """
    from rich.table import Table

    from ..bench.in_turns import bundle_command, compare
    from ..bundles.manifest import GeneratorFacts, Manifest

    manifest = Manifest.read(bundle)
    if isinstance(manifest.model, GeneratorFacts):
        if against:
            raise typer.BadParameter("--against compares encoders; a language model is compared by benchmarks/")
        _bench_generator(bundle, rounds, as_json)
        return
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
        engines[name] = [sys.executable, "-m", "medge.export.bench.engines", name, str(reference), str(batch),
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


def _bench_generator(bundle: Path, rounds: int, as_json: bool) -> None:
    from rich.table import Table

    from ..bench.generator import run_apart

    facts = run_apart(bundle, rounds)
    if as_json:
        print_json(facts)
        return
    table = Table(title=f"{facts['bundle']}, medians of {rounds} rounds, {facts['threads']} threads")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_row("cold start", f"{facts['cold_start_seconds']:.2f} s")
    table.add_row("reading a prompt", f"{facts['prefill_tokens_per_second']:.1f} tokens/s")
    table.add_row("generating", f"{facts['tokens_per_second']:.1f} tokens/s")
    if "first_question_seconds" in facts:
        table.add_row("first question on an image, to the first token", f"{facts['first_question_seconds']:.2f} s")
        table.add_row("second question on it", f"{facts['second_question_seconds']:.2f} s")
    table.add_row("peak memory", f"{facts['peak_bytes'] / 1e6:.0f} MB")
    out.print(table)
