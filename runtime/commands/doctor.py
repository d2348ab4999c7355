"""`medge doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..console.generator_options import CacheOption, ContextOption, FromStorageOption
from ..console.options import JsonOption
from ..console.terminal import out, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from ..bundles.bundle import Bundle
    from ..console.parts import Part
    from ..generator.planner import Plan


def doctor(
    bundles: Annotated[list[Path] | None, typer.Argument(help="Bundles of any kind to plan for.")] = None,
    context: ContextOption = None,
    cache: CacheOption = "f16",
    from_storage: FromStorageOption = False,
    phones: Annotated[
        bool, typer.Option("--phones", help="Show the bundles side by side: what each lost, and which phone holds it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what this device is, what medge lacks on it, and which bundles fit it, before anything is loaded.

    The exit code is 1 when a bundle does not fit; with --from-storage, when it does not run from storage either.

    Example: medge doctor bundle reader
    """
    import dataclasses

    from rich.table import Table

    from ..bundles.bundle import Bundle
    from ..console.parts import parts
    from ..console.phones import fit_words, on_phones, phones_table
    from ..generator.cache import CacheName
    from ..generator.planner import Device, Opening
    from ..kinds import KINDS

    device, opening = Device.here(), Opening(context, cache=cast("CacheName", cache), from_storage=from_storage)
    opened = [Bundle.open(path, verify=False, allow_failed_parity=True) for path in bundles or []]
    plans = [KINDS[bundle.manifest.kind].plan(bundle, device, opening) for bundle in opened]
    seconds = [_seconds_a_token(bundle, p) for bundle, p in zip(opened, plans, strict=True)]
    beside = [on_phones(bundle, opening) for bundle in opened] if phones else []
    found = parts()
    if as_json:
        rows = [
            {"bundle": p.name, "fits": p.fits, "fit": p.fit, "context": p.context, "threads": p.threads,
             "gpu_layers": p.gpu_layers, "cache_type": p.cache, "needs_bytes": p.need.total,
             "need": dataclasses.asdict(p.need), "read_again_bytes": p.read_again, "read_again_seconds": longer}
            for p, longer in zip(plans, seconds, strict=True)
        ]  # fmt: skip
        rows = [row | one.facts() for row, one in zip(rows, beside, strict=True)] if beside else rows
        print_json(
            {
                "device": dataclasses.asdict(device),
                "parts": [dataclasses.asdict(part) for part in found],
                "results": rows,
            }
        )
    else:
        here = Table(title="This device", show_header=False)
        here.add_row("memory", f"{device.memory_total / 1e9:.1f} GB, {device.memory_free / 1e9:.1f} GB of it free")
        here.add_row("cores", f"{device.cores}")
        here.add_row("CPU features", ", ".join(device.features) or "none that llama.cpp has kernels for")
        here.add_row("GPU", f"{device.gpu / 1e9:.1f} GB free" if device.gpu else "none that this llama.cpp can use")
        out.print(here)
        out.print(parts_table(found))
        for part in found:
            if part.mend:
                out.print(f"{part.purpose}: {part.mend}", soft_wrap=True, markup=False, highlight=False)
        if plans:
            table = Table(title="Bundles")
            for column in ("bundle", "", "context", "threads", "needs GB", "weights", "cache", "working"):
                table.add_column(column, justify="left" if column in ("bundle", "") else "right", overflow="fold")
            for p in plans:
                numbers = (p.need.total, p.need.weights, p.need.cache, p.need.working)
                gigabytes = [f"{number / 1e9:.2f}" for number in numbers]
                table.add_row(p.name, fit_words(p.fit), str(p.context or "none"), str(p.threads), *gigabytes)
            out.print(table)
        if beside:
            out.print(phones_table(beside))
        for p, longer in zip(plans, seconds, strict=True):
            if p.fit == "from storage":
                out.print(_told(p, longer), soft_wrap=True, markup=False, highlight=False)
    if not all(p.runs for p in plans):
        raise typer.Exit(1)


def _seconds_a_token(bundle: Bundle, plan: Plan) -> float | None:
    """By how much each token is longer from storage; None in memory, and where storage was not measured."""
    from ..device.storage import storage_speed

    path = bundle.path("language") if plan.fit == "from storage" else None
    speed = None if path is None else storage_speed(path)
    return None if speed is None else plan.seconds_a_token(speed)


def _told(plan: Plan, longer: float | None) -> str:
    slow = "how slow this device's storage is was not measured" if longer is None else f"about {longer:.1f} s more each"
    return (
        f"memory does not hold all of {plan.name}: --from-storage leaves its weights in their file, of which "
        f"{plan.read_again / 1e9:.2f} GB are read again for each token, {slow} (docs/results/from-storage.md)"
    )


def parts_table(found: list[Part]) -> Table:
    """What medge can do here, and what it lacks for the rest."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="What medge can do here", show_header=False)
    for part in found:
        state = Text(told_shortly(part.lacks), "yellow") if part.lacks else Text(part.remark or "yes", "green")
        table.add_row(part.purpose, state)
    return table


def told_shortly(lacks: list[str]) -> str:
    """What is missing, with the packages that are not installed named together."""
    end = " is not installed"
    gone = [one.removesuffix(end) for one in lacks if one.endswith(end)]
    rest = [one for one in lacks if not one.endswith(end)]
    if len(gone) > 1:
        return "; ".join([f"not installed: {', '.join(gone)}", *rest])
    return "; ".join(lacks)
