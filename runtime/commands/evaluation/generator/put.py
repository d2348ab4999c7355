"""Put questions to a language model one by one, and write a row of each as it is answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ....console.layouts import Columns, Row
from ....console.result_file import ResultFile
from ....console.terminal import progress, warn
from ....errors import ContextError, ImageError
from ....pictures.images import Refused
from ..given import Given
from .ways import Way


class Keyed(Protocol):
    """What has a name of its own: a question, an image."""

    @property
    def key(self) -> str: ...


def columns_of(way: Way, same: Row) -> Columns:
    """Of the file of items."""
    texts = ("label", "answer", "subject", "stop", "text", *way.texts)
    return Columns("id", same, texts, (*way.numbers, "tokens", "seconds"))


def put_all(way: Way, asked: Given, chosen: Sequence[Keyed], file: Path, columns: Columns) -> tuple[int, list[Refused]]:
    """Put what has no row yet, and write its row.

    Returns:
        how many had one, and those whose image can't be read.
    """
    failed: list[Refused] = []
    with ResultFile(file, columns, force=asked.force) as written, progress() as advance:
        waiting = [question for question in chosen if question.key not in written.done]
        for number, question in enumerate(waiting, 1):
            begun = time.perf_counter()
            row: Row = {"id": question.key, **columns.same, "answer": "", "stop": "", "text": "", "tokens": 0}
            row |= way.known(question)
            try:
                row |= way.put(question)
            except ContextError:  # it is wrong, and the row says why
                row |= {"stop": "too long", **way.unanswered(question)}
            except ImageError as error:
                reason = f"{question.key}: its image can't be read" if asked.no_names else f"{question.key}: {error}"
                failed.append(Refused(question.key, reason))
                warn(reason)
                continue
            written.add({**row, "seconds": round(time.perf_counter() - begun, 4)})
            advance("questions", number, len(waiting))
        return len(chosen) - len(waiting), failed


def counts_of(rows: Sequence[Row]) -> dict[str, Any]:
    """How many were asked, and how many of these were cut off at the limit of tokens or longer than the context, for JSON."""
    stops = [row["stop"] for row in rows]
    return {"evaluated": len(rows), "cut_off": stops.count("limit"), "too_long": stops.count("too long")}
