"""Results that are written as they come, so that an interruption loses nothing and the same command goes on.

A file of lines is added to: `.jsonl` holds everything, an object a line; `.csv` is for a spreadsheet, a row an image. What
can't be added to, `.parquet` and `.safetensors`, is written at the end; until then its rows are lines of a hidden file beside it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from ..bundles.atomic import atomic_file, refuse_special
from ..bundles.claim import claimed
from ..errors import StorageError, storage_errors
from .layouts import CSV, Columns, JSONLines, Lines, Row, layout_of

_ERRORS = "surrogateescape"  # a file's name that is no UTF-8 is written, and read again, byte for byte


def image_name(image: str | Path) -> str:
    """What an image is called in a file of results: its whole path, since another folder's image of the same name is another."""
    return os.path.abspath(image)


class ResultFile:
    """A file of results, one for each key; what stands in it already is not asked for again.

    Args:
        path: `.csv`, `.jsonl`, `.parquet` or `.safetensors`.
        columns: what its rows hold; those that stand in it must have the same `columns.same`.
        force: begin anew.

    Raises:
        StorageError: a file that holds other results, or the file system refused.
    """

    def __init__(self, path: Path, columns: Columns, *, force: bool = False) -> None:
        self.path, self._columns = path, columns
        layout = layout_of(path, columns)
        self._lines: Lines = layout if isinstance(layout, JSONLines | CSV) else JSONLines()
        self._whole = None if isinstance(layout, JSONLines | CSV) else layout
        self._rows = path if self._whole is None else path.with_name(f".{path.name}.rows")
        self._kept: list[Row] = []  # what a file that is written as a whole holds already
        self.done: set[str] = set()
        refuse_special(path)
        refuse_special(self._rows)
        with contextlib.ExitStack() as stack:
            stack.enter_context(claimed(path))  # another run that goes on in the same file would cut this one's rows
            with storage_errors(path):
                self._open(force)
            self._claim = stack.pop_all()

    def _open(self, force: bool) -> None:
        kept = 0
        if self._whole is not None and self.path.exists() and not force:
            with self._refusing_others():
                self._kept = self._same(self._whole.read(self.path))
                self.done.update([str(row[self._columns.key]) for row in self._kept])
        if self._rows.exists() and not force:
            try:
                with self._refusing_others():
                    kept = self._read_lines()
            except StorageError:
                if self._whole is None:
                    raise
                # What another question has left on its way to this file: nothing that could be taken up.
        self._stream = self._rows.open("r+b" if kept else "wb")
        self._stream.truncate(kept)  # what stands there is not written again: a kill now loses nothing
        self._stream.seek(kept)
        if not kept:
            self._write(self._lines.head())

    def _write(self, text: str) -> None:
        self._stream.write(text.encode(errors=_ERRORS))
        self._stream.flush()

    @contextlib.contextmanager
    def _refusing_others(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{self.path} exists and holds other results ({error}); choose another file, or replace it with --force"
            ) from error

    def _same(self, rows: list[Row]) -> list[Row]:
        for row in rows:
            if any(str(row[field]) != str(value) for field, value in self._columns.same.items()):
                raise ValueError("other results")
        return rows

    def _read_lines(self) -> int:
        """Bytes that the file holds, without a last line that was cut off; checks that it can be gone on with."""
        data = self._rows.read_bytes()
        whole = data[: data.rfind(b"\n") + 1].decode("utf-8", _ERRORS)
        begun = data and not whole and data.startswith(self._lines.beginning(self._columns.key).encode())
        if data and not begun and not (whole and whole.startswith(self._lines.head())):
            raise ValueError("other columns")
        rows = self._same(self._lines.read(whole))
        self.done.update([str(row[self._columns.key]) for row in rows])
        return len(whole.encode(errors=_ERRORS))

    def add(self, row: Row) -> None:
        """Write a row; it is in the file, or in the hidden one beside it, when this returns.

        Raises:
            StorageError: the file system refused, or a file of this kind can't hold such a row.
        """
        if self._whole is not None:
            self._whole.check(row)
        with storage_errors(self.path):
            self._write(self._lines.write(row))
        self.done.add(str(row[self._columns.key]))

    def _finish(self) -> None:
        """Write the whole file, where rows have come that are not in it."""
        if self._whole is None:
            return
        text = self._rows.read_bytes().decode("utf-8", _ERRORS)
        kept = {str(row[self._columns.key]) for row in self._kept}
        with self._refusing_others():
            fresh = [row for row in self._lines.read(text) if str(row[self._columns.key]) not in kept]
            if fresh:
                with atomic_file(self.path) as partial:
                    self._whole.write(partial, [*self._kept, *fresh])
        self._rows.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What a full disk did not take would be tried again here, and told in the place of the first error.
        with self._claim, contextlib.suppress(OSError) if error else storage_errors(self.path):
            self._stream.close()
            if not error:
                self._finish()
            elif not self._rows.stat().st_size:
                self._rows.unlink()
