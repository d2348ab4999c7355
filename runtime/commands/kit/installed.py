"""`medge kit apply|rollback|status`, and what a version is asked by the one before: `selftest`, `migrate`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...console.options import JsonOption
from ...console.terminal import err, out, print_json, progress, warn

if TYPE_CHECKING:
    from ...kit.change import Changed
    from ...kit.installation import Installation

PrefixOption = Annotated[
    Path | None, typer.Option(help="The installation's folder.", show_default="the one that this medge is of")
]
StickArgument = Annotated[Path, typer.Argument(help="The kit's folder on the stick.", show_default=False)]


def installation_at(prefix: Path | None) -> Installation:
    """The installation of a folder, or the one that this medge is of.

    Raises:
        KitError: there is none.
    """
    from ...kit.installation import Installation, default_prefix

    return Installation.open(prefix or default_prefix())


def _say(text: str) -> None:
    err.print(f"medge: {text}", soft_wrap=True)


def apply(
    stick: StickArgument,
    prefix: PrefixOption = None,
    allow_expired: Annotated[
        bool, typer.Option("--allow-expired", help="Take a kit that has expired by this machine's clock.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a stick's version onto this machine and let it run; the one before stays, and runs again where the new one fails.

    The signature and every hash are checked first, then the new version tests itself beside the one that runs: golden results,
    and a study from end to end. Studies, users and keys stay as they are. Killed at any moment, the same command goes on.

    Example: medge kit apply /media/usb/medge
    """
    from ...kit.admission import by_trust, learning
    from ...kit.change import apply as applied

    here = installation_at(prefix)
    with progress() as advance:
        changed = applied(
            here, stick, by_trust, clock=datetime.now(UTC), allow_expired=allow_expired, progress=advance, say=_say,
            learn=learning(here.trust),
        )  # fmt: skip
    _tell(changed, as_json)


def rollback(prefix: PrefixOption = None, as_json: JsonOption = False) -> None:
    """Go back to the version before, which is still on this machine. Refused where it could not read what was stored since.

    Example: medge kit rollback
    """
    from ...kit.change import rollback as back

    _tell(back(installation_at(prefix), say=_say), as_json)


def _tell(changed: Changed, as_json: bool) -> None:
    laid = changed.laid
    if as_json:
        sizes = {} if laid is None else {"copied": laid.copied, "linked": laid.linked, "kept": laid.kept}
        print_json({"counter": changed.counter, "before": changed.before, "medge": changed.medge,
                    "signer": changed.signer, **sizes})  # fmt: skip
        return
    before = "" if changed.before is None else f"; before it ran {changed.before}"
    out.print(f"version {changed.counter} (medge {changed.medge}) runs{before}", soft_wrap=True)
    if laid is not None:
        out.print(
            f"{laid.copied:,} bytes were copied, {laid.linked:,} are shared with the version before", soft_wrap=True
        )


def status(prefix: PrefixOption = None, as_json: JsonOption = False) -> None:
    """Say which version runs, what was put here when, and whether every file is as its makers signed it.

    The exit code is 1 where something is not whole.

    Example: medge kit status
    """
    from dataclasses import asdict

    from rich.table import Table

    from ...kit.change import problems

    here = installation_at(prefix)
    state, current, found = here.state, here.current(), problems(here)
    if as_json:
        print_json({
            "prefix": str(here.prefix), "data": state.data, "current": current, "versions": here.counters(),
            "highest": state.highest, "interrupted": state.pending is not None, "whole": not found, "problems": found,
            "results": [asdict(one) for one in state.history],
        })  # fmt: skip
    else:
        out.print(f"version {current} runs; here are {', '.join(map(str, here.counters())) or 'none'}", soft_wrap=True)
        table = Table()
        for column in ("when", "version", "medge", ""):
            table.add_column(column)
        for one in state.history[-20:]:
            table.add_row(one.at, str(one.counter), one.medge, one.what)
        out.print(table)
        for problem in found:
            warn(problem)
        if state.pending is not None:
            warn(f"a change to version {state.pending.to} was interrupted; medge kit apply or rollback ends it")
    if found:
        raise typer.Exit(1)


def selftest(
    bundles: Annotated[Path, typer.Option(help="The folder that holds the bundles' folders.", show_default=False)],
    database: Annotated[
        Path | None,
        typer.Option(help="A copy of a station's database, which is brought up to date.", show_default="none"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Test this version on this machine: golden results of every bundle, and a drawn study from end to end in a store of its own.

    The exit code is 1 where a check does not hold.

    Example: medge kit selftest --bundles bundles/
    """
    from dataclasses import asdict

    from .... import __version__
    from ...kit.selftest import selftest as tests
    from ...station.store.schema import STEPS

    with progress() as advance:
        found = list(tests(bundles, database, advance))
    good = all(one.good for one in found)
    if as_json:
        print_json(
            {"good": good, "medge": __version__, "schema": len(STEPS), "results": [asdict(one) for one in found]}
        )
    else:
        for one in found:
            out.print(f"{'ok' if one.good else 'FAIL':5}{one.what}: {one.note} ({one.seconds:.1f} s)", soft_wrap=True)
    if not good:
        raise typer.Exit(1)


def migrate(
    store: Annotated[Path, typer.Argument(help="The station's folder.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Bring a store's tables up to date, as starting the station does, and look whether its history holds.

    Example: medge kit migrate /var/lib/medge/store
    """
    from ...kit.selftest import upgraded
    from ...kit.store import database_of
    from ...station.station import Station

    with Station.open(store):
        pass
    database = database_of(store)
    good, note = (True, "empty") if database is None else upgraded(database)
    if as_json:
        print_json({"good": good, "note": note})
    else:
        out.print(note, soft_wrap=True)
    if not good:
        raise typer.Exit(1)
