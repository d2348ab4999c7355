"""A station's folder as the commands open it: beside a running station, or alone; and passwords as they are asked for."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...console.terminal import printable
from ...errors import StationError

if TYPE_CHECKING:
    from ...station.station import Station

StoreArgument = Annotated[Path, typer.Argument(help="The station's folder.", show_default=False)]


@contextlib.contextmanager
def station_at(store: Path, *, make: bool = False) -> Iterator[Station]:
    """The station of a folder; another process may have it open.

    Args:
        store: the folder.
        make: also where there is none yet, or one of an older medge.

    Raises:
        StationError: there is none, or it can't be used.
    """
    from ...station.station import Station
    from ...station.store.backup import DATABASE

    try:
        station = Station.join(store)
    except StationError:
        # Missing, or of an older medge: `open` makes and mends, and says why where it can't.
        if not make and not (store / DATABASE).is_file():
            raise
        station = Station.open(store)
    with station:
        yield station


def command_user() -> str:
    """Who runs the command, for the audit log. No user of the station has a name with a colon."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container may know no name
        name = str(getattr(os, "getuid", int)())
    return f"command:{name}"


def asked_password(name: str) -> str:
    """A new password: typed twice where somebody sits at a terminal, else a line of standard input. Never an argument, which
    other users of the machine see, and the shell's history keeps.

    Raises:
        StationError: the two differ, or there is none.
    """
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        if not line:
            raise StationError("standard input holds no password; pass it as a line")
        return line.removesuffix("\n").removesuffix("\r")
    first = getpass.getpass(f"New password of {printable(name)}: ")
    if getpass.getpass("Once more: ") != first:
        raise StationError("the two passwords differ; nothing was changed")
    return first
