"""What the commands share: consoles, JSON output, option types, progress."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .progress import Progress

out = Console()
err = Console(stderr=True)

SOME_FAILED = 3  # exit code when some inputs could not be read and the others are done

BundleArgument = Annotated[Path, typer.Argument(help="The bundle folder.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the same facts as JSON.")]
AllowFailed = Annotated[
    bool, typer.Option("--allow-failed-parity", help="Use a bundle whose gate failed or was never measured.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Threads of the engine.", show_default="its own choice")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto for a GPU where there is one.")]


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def warn(message: str) -> None:
    err.print(f"medge: {message}", style="yellow", markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar on stderr, one line per kind of work."""
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeElapsedColumn(),
    )  # fmt: skip
    with bars.Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int, /) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield advance
