"""The group `medge kit`."""

from __future__ import annotations

import typer

from .build import build
from .home import collect, fleet, key, unsealed
from .install import install
from .installed import apply, migrate, rollback, selftest, status
from .update import update

app = typer.Typer(no_args_is_help=True, help="A stick that makes a machine without a network a station.")
app.command()(build)
app.command()(install)
app.command()(update)
for command in (apply, rollback, status):
    app.command()(command)
for sent in (collect, fleet, key):
    app.command()(sent)
app.command("open")(unsealed)
for asked in (selftest, migrate):  # what one version asks another
    app.command(hidden=True)(asked)
