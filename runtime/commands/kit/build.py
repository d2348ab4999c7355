"""`medge kit build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...console.options import ForceOption, JsonOption


def build(
    bundles: Annotated[
        list[Path], typer.Option("--bundle", help="A bundle's folder; several times for several.", show_default=False)
    ],
    key: Annotated[Path, typer.Option(help="The makers' private key, which signs the kit.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The kit's folder: an empty one on the stick.", show_default=False)],
    target: Annotated[str, typer.Option(help="linux-x86_64 or linux-aarch64.")] = "linux-x86_64",
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a kit: everything that a machine without a network needs to be a station, in one folder.

    Example: medge kit build --bundle bundle --key makers.key --out /media/usb/medge
    """
    from ...errors import KitError

    raise KitError("medge kit build is being written")
