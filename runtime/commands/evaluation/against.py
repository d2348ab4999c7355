"""`medge evaluate --against`: two bundles are evaluated, each into its own folder, then compared."""

from __future__ import annotations

import warnings
from pathlib import Path

import typer

from ...bundles.bundle import Bundle
from ...bundles.manifest import Manifest
from ...console.terminal import print_json
from ...errors import ParityWarning, TaskError
from .comparison import compared, tell
from .given import Finished
from .runs import read_run
from .written import write_facts

COMPARISON = "comparison.json"


def places_of(
    bundle: Path, against: Path | None, out: Path | None, name: str, *, allow_failed_parity: bool
) -> list[Path]:
    """The folder of a bundle's run, and that of the one that it is compared with, where there is one.

    Args:
        bundle: the bundle.
        against: the other, or None.
        out: the folder that was asked for, or None.
        name: of a folder, with {} for the bundle's name.
        allow_failed_parity: whether a bundle may be used whose gate failed.

    Raises:
        TaskError: both are the same folder, or the bundles are of different kinds.
        BundleError: a bundle can't be read, or its gate failed: told before the first is evaluated, which may take hours.
    """
    manifest = Manifest.read(bundle)
    place = out or Path("evaluations") / name.format(manifest.name)
    if against is None:
        return [place]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParityWarning)  # told when it is loaded
        other = Bundle.open(against, verify=False, allow_failed_parity=allow_failed_parity).manifest
    if other.kind != manifest.kind:
        raise TaskError(f"{bundle} and {against} are of different kinds ({manifest.kind} and {other.kind})")
    beside = place.parent / name.format(other.name)
    if beside.resolve() == place.resolve():
        raise TaskError(
            f"{bundle} and {against} have the same name, and so the same folder {place}: give another --out"
        )
    return [place, beside]


def compare_both(finished: Finished, other: Finished, *, as_json: bool) -> None:
    """Compare two runs, write that into the folder of the first, and tell it.

    Args:
        finished: the run of the bundle that was asked for.
        other: that of the bundle that it is compared with.
        as_json: print JSON.

    Raises:
        TaskError: nothing could be read in both.
        typer.Exit: an image could not be read.
    """
    code = 0
    for one in (finished, other):
        try:
            one.end()
        except typer.Exit as end:
            code = max(code, end.exit_code)
    facts = compared([read_run(other.place), read_run(finished.place)])
    write_facts(finished.place / COMPARISON, facts)
    if as_json:
        failed = [
            *finished.many["failed"],
            *(one for one in other.many["failed"] if one not in finished.many["failed"]),
        ]
        print_json({**facts, "out": str(finished.place), "failed": failed})
    else:
        tell(facts)
    if code:
        raise typer.Exit(code)
