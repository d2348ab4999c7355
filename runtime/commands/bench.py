"""`medge bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..console.options import BundleArgument, JsonOption
from ..console.terminal import out, print_json, progress

ENGINES = {"pytorch": "torch", "optimum": "optimum", "openvino": "openvino"}  # name: package


def bench(
    bundle: BundleArgument,
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs of each engine, at least.")] = 10,
    batch: Annotated[int, typer.Option(min=1, help="Images in a run.")] = 1,
    against: Annotated[list[str] | None, typer.Option(help=f"Also time {', '.join(ENGINES)}; repeat it.")] = None,
    reference: Annotated[Path | None, typer.Option(help="The checkpoint, for --against.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Latency, throughput, cold start and peak memory of a bundle on this machine.

    Every engine runs in a process of its own with the same number of threads, and they take turns. The ratio of times comes with
    its 95% interval; rounds are added, up to five times as many, while it is wide. It is left out where it stays wide, or where
    the time that the processor worked says something else than the time that passed, as on a machine that is busy. A language
    model is timed reading a prompt, generating, and answering a second question about the same image.

    Example: medge bench bundle --against pytorch --reference medsiglip-mini
    """
    from importlib.util import find_spec

    from ..bench.asked import Asked
    from ..bundles.manifest import Manifest
    from ..errors import CheckpointError, MissingExtraError
    from ..kinds import KINDS

    manifest = Manifest.read(bundle)
    commands = {}
    for name in against or []:
        if name not in ENGINES:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(ENGINES)}")
        if reference is None:
            raise typer.BadParameter("--against needs --reference DIR, the checkpoint")
        if not (reference / "config.json").is_file():
            raise CheckpointError(f"{reference} is no checkpoint folder; give the folder that holds config.json")
        if find_spec(ENGINES[name]) is None:
            raise MissingExtraError(ENGINES[name], "export" if name == "pytorch" else "bench")
        # By name, in another process: the runtime imports nothing of the export room.
        commands[name] = [sys.executable, "-m", "medge.export.bench.engines", name, str(reference), str(batch)]
    with progress() as advance:
        measured = KINDS[manifest.kind].bench(bundle, Asked(rounds, batch, commands), advance)
    if as_json:
        print_json({"bundle": manifest.name, "results": measured.facts})
    else:
        out.print(measured.table)
