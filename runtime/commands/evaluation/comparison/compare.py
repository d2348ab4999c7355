"""`medge compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ....console.options import ForceOption, JsonOption, MarginOption

RunsArgument = Annotated[
    list[Path], typer.Argument(help="Folders of finished runs; the first is what the others are compared with.")
]
PageOption = Annotated[
    Path | None, typer.Option("--out", help="Write the comparison as a page, .html.", show_default=False)
]


def compare(
    runs: RunsArgument, margin: MarginOption = None, to: PageOption = None, force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Compare finished runs of medge evaluate with the first of them: which recipe should I ship?

    They must be of the same task, method, prompts, labels and draw. A line a run: its main figure, its difference to the
    first, both with 95% intervals, size, peak memory, time and parity. Of two runs also the differences of all figures, and how
    many answers changed. The page of --out has that of all runs, with the figure drawn against size, memory and time.

    Example: medge compare evaluations/folder-bundle-zero-shot evaluations/folder-smaller-zero-shot --margin 0.02
    """
    from ....bundles.atomic import refuse_existing, replace_text
    from ....console.terminal import out, print_json
    from ....pages.extra import require_pages
    from ..page import comparison_page
    from .compared import compared
    from .runs import read_run
    from .tables import tell

    if len(runs) < 2:
        raise typer.BadParameter("give at least two folders of runs", param_hint="RUNS")
    if to is not None:
        if to.suffix.lower() != ".html":
            raise typer.BadParameter(f"{to} does not end in .html", param_hint="--out")
        refuse_existing(to, force=force)
        require_pages()
    facts = compared([read_run(run) for run in runs], margin)
    if to is not None:
        replace_text(to, comparison_page(facts)())
    if as_json:
        print_json({**facts, "out": str(to) if to else None})
        return
    tell(facts)
    if to is not None:
        out.print(f"page: {to}", soft_wrap=True)
