"""`medge kit install`."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...console.options import JsonOption
from ...console.terminal import err, out, print_json, progress

if TYPE_CHECKING:
    from ...kit.installing.first import Outlook

Prefix = Annotated[Path, typer.Option(help="The installation's folder.", show_default=False)]


def install(
    stick: Annotated[Path, typer.Argument(help="The kit's folder on the stick.", show_default=False)],
    prefix: Prefix,
    data: Annotated[Path, typer.Option(help="The folder of studies and backups.", show_default=False)],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The page's port on this machine.")] = 8642,
    fingerprint: Annotated[
        str | None, typer.Option(help="The makers' key, as they told it.", show_default="it is shown, and asked about")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    no_service: Annotated[bool, typer.Option("--no-service", help="Do not start the station by itself.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make this machine a station. `install.sh` on the stick calls this, with the stick's own Python.

    It looks at the machine first, says what it will do, and asks. Killed at any moment, the same command goes on.

    Example: medge kit install /media/usb/medge --prefix /opt/medge --data /var/lib/medge
    """
    from ...bundles.claim import scratch_folder
    from ...errors import KitError
    from ...kit.installing import first, machine
    from ...kit.installing.service import Places

    root = getattr(os, "geteuid", int)() == 0
    places = Places(prefix.absolute(), data.absolute(), port, root)
    try:
        with scratch_folder() as scratch:
            seen = first.outlook(
                stick.absolute(), places, scratch, service=not no_service, now=datetime.datetime.now(datetime.UTC)
            )
            if not as_json:
                _tell(seen)
            if (against := seen.refused) is not None:
                raise first.Refusal(f"{against.what}: {against.said}", against.refused)
            _agree(seen, fingerprint, yes=yes or dry_run)
            if not dry_run:
                with progress() as advance:
                    changed = first.put_in(seen, progress=advance, say=_say)
        if as_json:
            print_json(_facts(seen) | ({} if dry_run else {"counter": changed.counter, "signer": changed.signer}))
        elif dry_run:
            out.print("Nothing was changed.", soft_wrap=True)
        else:
            _done(seen)
    except first.Refusal as error:
        err.print(f"medge: {error}", soft_wrap=True)
        raise typer.Exit(error.code) from error
    except KitError as error:
        err.print(f"medge: {error}", soft_wrap=True)
        raise typer.Exit(machine.DAMAGED) from error


def _say(text: str) -> None:
    err.print(f"medge: {text}", soft_wrap=True)


def _tell(seen: Outlook) -> None:
    for one in seen.found:
        mark = "NO  " if one.refused else "note" if one.warned else "ok  "
        out.print(f"{mark} {one.what}: {one.said}", soft_wrap=True)
    told, places = seen.kit.statement, seen.places
    out.print(f"\nThis will be done, in about {max(1, round(seen.minutes))} minutes:", soft_wrap=True)
    out.print(f"  {told.name} {told.counter} (medge {told.medge}) goes into {places.prefix}", soft_wrap=True)
    out.print(f"  studies, users and backups go into {places.data}", soft_wrap=True)
    who = {"system": "of the machine, as the user medge", "user": "of this user"}.get(seen.scope)
    if who:
        out.print(f"  the station becomes a service {who}, and starts by itself", soft_wrap=True)
    else:
        out.print("  no service: the station is started by hand", soft_wrap=True)
    out.print("  every model is tried on this machine against its golden results", soft_wrap=True)
    out.print(f"The kit was signed by {seen.signer}.", soft_wrap=True)
    if seen.key is not None:
        out.print(
            f"This machine does not know that key yet. Its fingerprint is\n  {seen.key.fingerprint}", soft_wrap=True
        )


def _agree(seen: Outlook, fingerprint: str | None, *, yes: bool) -> None:
    """Let a person agree to the key and to the whole.

    Raises:
        Refusal: they don't, or nobody has said that the key is the makers'.
    """
    from ...kit.installing.first import Refusal, same_fingerprint
    from ...kit.installing.machine import UNSIGNED

    if seen.key is not None and fingerprint is not None and not same_fingerprint(seen.key, fingerprint):
        raise Refusal(
            f"the kit is signed by the key {seen.key.fingerprint}, and you were told {fingerprint}: do not use this stick, and "
            "tell its makers",
            UNSIGNED,
        )
    if yes:
        if seen.key is not None and fingerprint is None:
            raise Refusal(
                "nobody has said that the key on the stick is the makers': ask them for its fingerprint and give it with "
                "--fingerprint",
                UNSIGNED,
            )
        return
    if seen.key is not None and fingerprint is None:
        _ask("Is this the fingerprint that the makers told you?")
    _ask("Go on?")


def _ask(question: str) -> None:
    from ...kit.installing.first import Refusal
    from ...kit.installing.machine import DECLINED

    try:
        answer = input(f'{question} Type "yes" to go on: ')
    except EOFError:
        answer = ""
    if answer.strip() != "yes":
        raise Refusal("nothing was changed", DECLINED)


def _done(seen: Outlook) -> None:
    url = f"http://127.0.0.1:{seen.places.port}"
    if not seen.scope:
        out.print(
            f"The station is here. Start it with {seen.places.prefix / 'start-station'}, then open {url}",
            soft_wrap=True,
        )
        return
    out.print(f"The station runs: {url}", soft_wrap=True)
    opener = shutil.which("xdg-open")
    if opener and not seen.places.root and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        subprocess.Popen([opener, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def _facts(seen: Outlook) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "prefix": str(seen.places.prefix), "data": str(seen.places.data), "port": seen.places.port, "service": seen.scope,
        "kit": seen.kit.counter, "medge": seen.kit.statement.medge, "signer": seen.signer, "minutes": round(seen.minutes, 1),
        "new_key": None if seen.key is None else seen.key.fingerprint, "results": [asdict(one) for one in seen.found],
    }  # fmt: skip
