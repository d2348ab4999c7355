"""`medge kit build`."""

from __future__ import annotations

import typer

from .build import build

app = typer.Typer(no_args_is_help=True, help="A stick that makes a machine without a network a station.")
for command in (build,):
    app.command()(command)
