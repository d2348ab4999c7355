"""`medge compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...console.options import JsonOption

RunsArgument = Annotated[
    list[Path], typer.Argument(help="Folders of finished runs; the first is what the others are compared with.")
]


def compare(runs: RunsArgument, as_json: JsonOption = False) -> None:
    """Compare finished runs of medge evaluate with the first of them: which recipe should I ship?

    They must be of the same task, method, prompts, labels and draw. A line a run: its main figure, its difference to the
    first, both with 95% intervals, size, time and parity. Of two runs also the differences of all figures, and how many
    answers changed.

    Example: medge compare evaluations/folder-bundle-zero-shot evaluations/folder-smaller-zero-shot
    """
    from ...console.terminal import print_json
    from .comparison import compared, tell
    from .runs import read_run

    if len(runs) < 2:
        raise typer.BadParameter("give at least two folders of runs", param_hint="RUNS")
    facts = compared([read_run(run) for run in runs])
    if as_json:
        print_json(facts)
    else:
        tell(facts)
