"""`medge kit build|install|apply|rollback|status`."""

from __future__ import annotations

from collections.abc import Callable

import typer

from .build import build
from .install import install
from .installed import apply, migrate, rollback, selftest, status

app = typer.Typer(no_args_is_help=True, help="A stick that makes a machine without a network a station.")
SHOWN: tuple[Callable[..., None], ...] = (build, install, apply, rollback, status)
ASKED: tuple[Callable[..., None], ...] = (selftest, migrate)  # by one version of another
for command in SHOWN:
    app.command()(command)
for command in ASKED:
    app.command(hidden=True)(command)
