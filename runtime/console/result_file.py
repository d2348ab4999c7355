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

from ..bundles.atomic import atomic_file
from ..errors import GOES_ON, StorageError, storage_errors
from .layouts import CSV, Columns, JSONLines, Lines, Row, layout_of
from .line_file import LineFile

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
        self._form: Lines = layout if isinstance(layout, JSONLines | CSV) else JSONLines()
        self._whole = None if isinstance(layout, JSONLines | CSV) else layout
        self._kept: list[Row] = []  # what a file that is written as a whole holds already
        self.done: dict[str, str] = {}  # with what each was taken for, "" where that is not said
        self._lines = LineFile(
            path if self._whole is None else path.with_name(f".{path.name}.rows"),
            self._form.head().encode(errors=_ERRORS),
            _begin_anew if force else self._take_up,
            place=path,
            passing=self._whole is not None,
        )

    def _take_up(self, lines: bytes, cut_off: bytes) -> bool:
        if self._whole is not None and self.path.exists():
            with self._refusing_others():
                self._kept = self._same(self._whole.read(self.path))
        try:
            with self._refusing_others():
                rows = self._read_lines(lines, cut_off)
        except StorageError:
            if self._whole is None:
                raise
            rows = []  # what another question has left on its way to this file: nothing that could be taken up
        for row in [*self._kept, *rows]:
            self._note(row)
        return bool(rows)

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

    def _read_lines(self, lines: bytes, cut_off: bytes) -> list[Row]:
        """The rows that the file holds; checks that it can be gone on with."""
        text = lines.decode("utf-8", _ERRORS)
        begun = not lines and cut_off.startswith(self._form.beginning(self._columns.key).encode())
        if (lines or cut_off) and not begun and not (lines and text.startswith(self._form.head())):
            raise ValueError("other columns")
        return self._same(self._form.read(text))

    def add(self, row: Row) -> None:
        """Write a row; it is in the file, or in the hidden one beside it, when this returns.

        Raises:
            StorageError: the file system refused, or a file of this kind can't hold such a row.
        """
        if self._whole is not None:
            self._whole.check(row)
        self._lines.add(self._form.write(row).encode(errors=_ERRORS))
        self._note(row)

    def _note(self, row: Row) -> None:
        label = self._columns.taken_for
        self.done[str(row[self._columns.key])] = label(row) if label else ""

    def _finish(self) -> None:
        """Write the whole file, where rows have come that are not in it."""
        if self._whole is None:
            return
        kept = {str(row[self._columns.key]) for row in self._kept}
        with storage_errors(self.path, GOES_ON), self._refusing_others():
            text = self._lines.path.read_bytes().decode("utf-8", _ERRORS)
            fresh = [row for row in self._form.read(text) if str(row[self._columns.key]) not in kept]
            if fresh:
                with atomic_file(self.path) as partial:
                    self._whole.write(partial, [*self._kept, *fresh])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:
            self._lines.__exit__(kind, error, trace)
            return
        with self._lines:
            self._finish()


def _begin_anew(lines: bytes, cut_off: bytes) -> bool:
    return False
