"""`medge station user|token|backup|restore|audit|connect|find|fetch`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ...console.options import JsonOption
from ...console.terminal import out, print_json, progress, warn
from . import systems, tokens, users
from .moments import moment
from .stores import StoreArgument, command_user, station_at

app = typer.Typer(no_args_is_help=True, help="Users, tokens, backup, history and the clinic's systems of a station.")
app.add_typer(users.app, name="user")
app.add_typer(tokens.app, name="token")
for command in (systems.connect, systems.find, systems.fetch):
    app.command()(command)
_PAGE = 1000  # entries that are read at once


@app.command()
def backup(
    store: StoreArgument,
    to: Annotated[
        Path, typer.Argument(help="An empty folder, or an earlier backup of the station.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Copy a station while it works. Into an earlier backup, only what is new is copied. The copy holds patients' data.

    Example: medge station backup clinic /media/usb/clinic-backup
    """
    with station_at(store) as station, progress() as advance:
        copied = station.backup(to, who=command_user(), progress=advance)
    if as_json:
        print_json({"out": str(to), "objects": copied.objects, "bytes": copied.bytes, "new": copied.new})
    else:
        out.print(f"{to}: {copied.objects} objects, {copied.bytes:,} bytes; {copied.new} copied now", soft_wrap=True)


@app.command()
def restore(
    backup: Annotated[Path, typer.Argument(help="A folder that backup has written.", show_default=False)],
    store: Annotated[
        Path, typer.Argument(help="The new station's folder, which is not there yet.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Make a station of a backup, on this machine or another: with its studies, users, tokens and history. A certificate of the
    station's own is made anew.

    Example: medge station restore /media/usb/clinic-backup clinic
    """
    from ...station.store.backup import restore as made_of

    with progress() as advance:
        copied = made_of(backup, store, advance)
    with station_at(store) as station:
        station.note(command_user(), "restored from a backup")
    if as_json:
        print_json({"out": str(store), "objects": copied.objects, "bytes": copied.bytes})
    else:
        out.print(f"{store}: {copied.objects} objects, {copied.bytes:,} bytes", soft_wrap=True)


@app.command()
def audit(
    store: StoreArgument,
    what: Annotated[
        str, typer.Option(help="Only entries about this UID, job, user or token.", show_default="everything")
    ] = "",
    limit: Annotated[int, typer.Option(min=0, help="How many of the newest entries are printed.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Check that nothing in the audit log was changed or taken out, and print its newest entries, the newest last. The hash of
    the last entry, noted elsewhere, also shows later whether somebody has written the whole log anew.

    Example: medge station audit clinic --limit 5
    """
    from ...station.store.audit import Entry

    with station_at(store) as station:
        broken = station.history_break()
        newest = station.history(limit=1)
        entries, before = list[Entry](), 0
        while len(entries) < limit:
            more = station.history(what=what, before=before, limit=min(_PAGE, limit - len(entries)))
            entries += more
            if not more:
                break
            before = more[-1].id
    head = newest[0] if newest else None
    if as_json:
        print_json({
            "whole": broken is None, "break": None if broken is None else {"id": broken.id, "reason": broken.reason},
            "entries": 0 if head is None else head.id, "hash": None if head is None else head.hash,
            "results": [
                {"id": one.id, "at": one.at, "who": one.who, "action": one.action, "what": one.what, "detail": one.detail}
                for one in reversed(entries)
            ],
        })  # fmt: skip
    else:
        for one in reversed(entries):
            detail = json.dumps(one.detail, ensure_ascii=False) if one.detail else ""
            out.print(" ".join(filter(None, (f"{one.id}", moment(one.at), f"{one.who}:", one.action, one.what, detail))),
                      soft_wrap=True)  # fmt: skip
        if broken is None:
            out.print(f"{head.id if head else 0} entries, nothing changed" + (f"; last hash {head.hash}" if head else ""),
                      soft_wrap=True)  # fmt: skip
    if broken is not None:
        warn(f"the audit log does not hold: {broken.reason}")
        raise typer.Exit(1)
