"""A station's folder as the commands open it: beside a running station, or alone; and passwords as they are asked for."""

from __future__ import annotations

import contextlib
import getpass
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...console.asked import asked_secret
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
    """A user's new password.

    Raises:
        StationError: the two that were typed differ, or there is none.
    """
    return asked_secret(f"New password of {name}", twice=True, error=StationError)
