"""The pages of a run and of a comparison, written when the work is done; without `medge[pages]` there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...bundles.atomic import replace_text
from ...console.terminal import warn
from ...errors import MissingExtraError, storage_errors
from ...evaluation.task import headline_of
from ...pages.extra import require_pages
from .given import Finished

PAGE = "metrics.html"


def page_of(finished: Finished) -> Callable[[], str]:
    """What makes the page of a run."""

    def render() -> str:
        from ...evaluation.pages.run import render_run

        facts, task = finished.facts, finished.facts["task"]
        return render_run(facts, finished.rows, headline_of(task["form"], task["method"]), finished.questions)

    return render


def comparison_page(facts: Mapping[str, Any]) -> Callable[[], str]:
    """What makes the page of a comparison."""

    def render() -> str:
        from ...evaluation.pages.comparison import render_comparison

        return render_comparison(facts)

    return render


def write_pages(pages: Mapping[Path, Callable[[], str]]) -> bool:
    """Write pages, or say in one sentence how to get them; then an earlier run's go, which would tell other figures.

    Args:
        pages: {where to: what makes it}.

    Returns:
        Whether they are written.

    Raises:
        StorageError: the file system refused.
    """
    try:
        require_pages()
    except MissingExtraError as error:
        for path in pages:
            with storage_errors(path):
                path.unlink(missing_ok=True)
        warn(f"no page was written: {error}")
        return False
    for path, render in pages.items():
        replace_text(path, render())
    return True
