"""`medge evaluate --against`: two models are evaluated, each into its own folder, then compared."""

from __future__ import annotations

from pathlib import Path

import typer

from ....console.terminal import out, print_json
from ....errors import TaskError
from ..given import Finished
from ..page import PAGE, comparison_page, page_of, write_pages
from ..subject import Candidate
from ..written import write_facts
from .compared import compared
from .runs import read_run
from .tables import tell

COMPARISON, COMPARISON_PAGE = "comparison.json", "comparison.html"


def places_of(first: Candidate, second: Candidate | None, out: Path | None, name: str) -> list[Path]:
    """The folder of a run, and that of the one that it is compared with, where there is one.

    Args:
        first: what is evaluated.
        second: what it is compared with, or None.
        out: the folder that was asked for, or None.
        name: of a folder, with {} for the model's name.

    Raises:
        TaskError: both are the same folder, or of different kinds.
        MedgeError: the second can't be opened: told before the first is evaluated, which may take hours.
    """
    place = out or Path("evaluations") / name.format(first.name)
    if second is None:
        return [place]
    second.check()
    if first.kind != second.kind:
        raise TaskError(f"{first.folder} and {second.folder} are of different kinds ({first.kind} and {second.kind})")
    beside = place.parent / name.format(second.name)
    if beside.resolve() == place.resolve():
        raise TaskError(
            f"{first.folder} and {second.folder} have the same name, and so the same folder {place}: give another --out"
        )
    return [place, beside]


def compare_both(finished: Finished, other: Finished, margin: float | None, *, as_json: bool) -> None:
    """Compare two runs, write that into the folder of the first, and the pages of all, and tell it.

    Args:
        finished: the run of the model that was asked for.
        other: that of the model that it is compared with.
        margin: the loss of the main figure that can be borne, or None.
        as_json: print JSON.

    Raises:
        TaskError: nothing could be read in both.
        typer.Exit: an image could not be read.
    """
    code = 0
    for one in (finished, other):
        try:
            one.end()
        except typer.Exit as end:
            code = max(code, end.exit_code)
    facts = compared([read_run(other.place), read_run(finished.place)], margin)
    write_facts(finished.place / COMPARISON, facts)
    page = finished.place / COMPARISON_PAGE
    runs = {one.place / PAGE: page_of(one) for one in (finished, other)}
    written = write_pages({**runs, page: comparison_page(facts)})
    if as_json:
        failed = [
            *finished.many["failed"],
            *(one for one in other.many["failed"] if one not in finished.many["failed"]),
        ]
        told = {"out": str(finished.place), "page": str(page) if written else None}
        print_json({**facts, **told, "failed": failed})
    else:
        tell(facts)
        if written:
            out.print(f"page: {page}", soft_wrap=True)
    if code:
        raise typer.Exit(code)
