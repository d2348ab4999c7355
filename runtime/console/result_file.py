"""Results that are written as they come, so that an interruption loses nothing and the same command goes on.

`.jsonl` holds everything, an object a line; `.csv` is for a spreadsheet, a row an image.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from ..bundles.atomic import refuse_special
from ..bundles.claim import claimed
from ..errors import StorageError, storage_errors

Row = dict[str, Any]
_ERRORS = "surrogateescape"  # a file's name that is no UTF-8 is written, and read again, byte for byte


class Layout(Protocol):
    """How rows are lines of a file."""

    def head(self) -> str:
        """What stands before the first row."""
        ...

    def beginning(self, key: str) -> str:
        """With what the first line begins."""
        ...

    def write(self, row: Row) -> str:
        """A row, with its end of line."""
        ...

    def read(self, text: str) -> list[Row]:
        """Rows that were written, at least with what `key` needs."""
        ...


class JSONLines:
    """An object a line."""

    def head(self) -> str:
        return ""

    def beginning(self, key: str) -> str:
        return json.dumps({key: ""})[:-2]  # up to the quotation mark that begins the value

    def write(self, row: Row) -> str:
        return json.dumps(row, ensure_ascii=False) + "\n"

    def read(self, text: str) -> list[Row]:
        return [json.loads(line) for line in text.split("\n") if line]


class CSV:
    """A row of these columns a line, as spreadsheets read it."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)

    def head(self) -> str:
        return self._line(self.columns)

    def beginning(self, key: str) -> str:
        return key

    def write(self, row: Row) -> str:
        return self._line([row.get(column, "") for column in self.columns])

    def read(self, text: str) -> list[Row]:
        return list(csv.DictReader(io.StringIO(text, newline="")))

    def _line(self, cells: Sequence[Any]) -> str:
        place = io.StringIO(newline="")
        csv.writer(place, lineterminator="\n").writerow(cells)
        return place.getvalue()


def image_name(image: str | Path) -> str:
    """What an image is called in a file of results: its whole path, since another folder's image of the same name is another."""
    return os.path.abspath(image)


class ResultFile:
    """A file of results, one for each key; what stands in it already is not asked for again.

    Args:
        path: `.csv` or `.jsonl`.
        columns: of a `.csv`.
        key: the field that names a row, such as "image".
        same: fields that must be the same in every row, with their values: the bundle, the labels.
        force: begin anew.

    Raises:
        StorageError: another ending, a file that holds other results, or the file system refused.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, key: str, same: Row, force: bool = False) -> None:
        layouts: dict[str, Layout] = {".jsonl": JSONLines(), ".csv": CSV(columns)}
        if path.suffix.lower() not in layouts:
            raise StorageError(f"{path}: results are written as {' or '.join(layouts)}")
        self.path, self._layout, self._key = path, layouts[path.suffix.lower()], key
        self.done: set[str] = set()
        refuse_special(path)
        with contextlib.ExitStack() as stack:
            stack.enter_context(claimed(path))  # another run that goes on in the same file would cut this one's rows
            with storage_errors(path):
                kept = 0 if force or not path.exists() else self._read_whole(same)
                self._stream = path.open("r+b" if kept else "wb")
                self._stream.truncate(kept)  # what stands there is not written again: a kill now loses nothing
                self._stream.seek(kept)
                if not kept:
                    self._write(self._layout.head())
            self._claim = stack.pop_all()

    def _write(self, text: str) -> None:
        self._stream.write(text.encode(errors=_ERRORS))
        self._stream.flush()

    def _read_whole(self, same: Row) -> int:
        """Bytes that the file holds, without a last line that was cut off; checks that it can be gone on with."""
        try:
            data = self.path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1].decode("utf-8", _ERRORS)
            begun = data and not whole and data.startswith(self._layout.beginning(self._key).encode())
            if data and not begun and not (whole and whole.startswith(self._layout.head())):
                raise ValueError("other columns")
            for row in self._layout.read(whole):
                if any(str(row[field]) != str(value) for field, value in same.items()):
                    raise ValueError("other results")
                self.done.add(str(row[self._key]))
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{self.path} exists and holds other results ({error}); choose another file, or replace it with --force"
            ) from error
        return len(whole.encode(errors=_ERRORS))

    def missing(self, images: Sequence[Path]) -> list[Path]:
        """Those of these images that have no row yet, where rows are named by `image_name`."""
        return [path for path in images if image_name(path) not in self.done]

    def add(self, row: Row) -> None:
        """Write a row; it is in the file when this returns."""
        with storage_errors(self.path):
            self._write(self._layout.write(row))
        self.done.add(str(row[self._key]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What a full disk did not take would be tried again here, and told in the place of the first error.
        with self._claim, contextlib.suppress(OSError) if error else storage_errors(self.path):
            self._stream.close()
