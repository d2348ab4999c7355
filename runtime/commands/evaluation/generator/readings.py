"""Have written reports read by models that know what is in a report, and keep what they find beside the items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ....bundles.manifest import sha256_json
from ....console.layouts import Columns, Row
from ....console.result_file import ResultFile
from ....console.terminal import progress
from ....evaluation.readings.reading import Reader
from ....evaluation.readings.table import READINGS
from ..written import readings_file, rows_of


def read_all(reader: Reader, rows: Sequence[Row], items: Path, *, force: bool) -> list[Row]:
    """The rows with what a reader has found in each; what has been read by the same one before is not read again.

    Args:
        reader: the model.
        rows: of the file of items, at least one.
        items: that file.
        force: begin anew.

    Raises:
        StorageError: the file beside the items holds what another reader has found, or of other reports.
    """
    same = {"reader": reader.name, "made_with": sha256_json([rows[0]["made_with"], reader.identity])[:16]}
    columns = Columns("id", same, numbers=READINGS[reader.name].columns)
    file = readings_file(items, reader.name)
    with ResultFile(file, columns, force=force) as written, progress() as advance:
        waiting = [row for row in rows if row["id"] not in written.done]
        read = reader.open() if waiting else None
        for place, row in enumerate(waiting, 1):
            assert read is not None  # something waits
            written.add({"id": row["id"], **same, **read(str(row["answer"] or ""), str(row["label"]))})
            advance(f"reports read by {reader.name}", place, len(waiting))
    found = {row["id"]: row for row in rows_of(file, columns, (str(row["id"]) for row in rows))}
    return [{**row, **{name: found[row["id"]][name] for name in columns.numbers}} for row in rows]
