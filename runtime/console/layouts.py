"""Forms of a file of results: lines that can be added to one by one, and files that can only be written as a whole."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import MissingExtraError, StorageError, one_line

Row = dict[str, Any]


@dataclass(frozen=True)
class Columns:
    """What the rows of a file of results hold.

    Attributes:
        key: the field that names a row, such as "image".
        same: fields that are the same in every row, with their values: the bundle, a hash of what was asked.
        texts: further fields that are texts.
        numbers: fields that are numbers, or None.
        vectors: fields that are lists of numbers, as `as_numbers` makes them; a .csv holds none.
        taken_for: of a row, the label that its image was taken for, for the totals; None where rows have no such thing.
    """

    key: str
    same: Row
    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    taken_for: Callable[[Row], str] | None = None

    @property
    def names(self) -> list[str]:
        return [self.key, *self.same, *self.texts, *self.numbers, *self.vectors]


class Lines(Protocol):
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
        return self._line([_cell(row.get(column)) for column in self.columns])

    def read(self, text: str) -> list[Row]:
        return list(csv.DictReader(io.StringIO(text, newline="")))

    def _line(self, cells: Sequence[Any]) -> str:
        place = io.StringIO(newline="")
        csv.writer(place, lineterminator="\n").writerow(cells)
        return place.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None else value


class Whole(Protocol):
    """How rows are a file that can't be added to."""

    def check(self, row: Row) -> None:
        """Refuse a row that such a file can't hold.

        Raises:
            StorageError: it can't.
        """
        ...

    def write(self, path: Path, rows: Sequence[Row]) -> None:
        """Write a file of these rows."""
        ...

    def read(self, path: Path) -> list[Row]:
        """The rows that were written.

        Raises:
            ValueError: it is another file.
        """
        ...


class Parquet:
    """A table of these columns, for pandas, Polars, DuckDB and their like."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def check(self, row: Row) -> None:
        name = str(row[self.columns.key])
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise StorageError(
                f"{name!r}: a name that is no UTF-8 can't stand in Parquet; write .csv or .jsonl"
            ) from error

    def write(self, path: Path, rows: Sequence[Row]) -> None:
        import pyarrow
        from pyarrow import parquet

        kinds = dict.fromkeys(self.columns.names, pyarrow.string())
        kinds |= dict.fromkeys(self.columns.numbers, pyarrow.float64())
        kinds |= dict.fromkeys(self.columns.vectors, pyarrow.list_(pyarrow.float32()))
        fields = list(kinds.items())
        parquet.write_table(pyarrow.Table.from_pylist(list(rows), pyarrow.schema(fields)), path)

    def read(self, path: Path) -> list[Row]:
        from pyarrow import parquet

        table = parquet.read_table(path)
        if table.column_names != self.columns.names:
            raise ValueError("other columns")
        return list(table.to_pylist())


class Embeddings:
    """A safetensors file of one (N, D) float32 tensor, "embeddings"; its metadata names the inputs in the same order."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def check(self, row: Row) -> None:
        """Any name will do: the metadata hold it as ASCII."""

    def write(self, path: Path, rows: Sequence[Row]) -> None:
        import numpy as np
        from safetensors.numpy import save_file

        table = np.stack([np.asarray(row["embedding"], np.float32) for row in rows])
        same = {name: str(value) for name, value in self.columns.same.items()}
        inputs = json.dumps([row[self.columns.key] for row in rows])
        save_file({"embeddings": table}, path, {"inputs": inputs, **same})

    def read(self, path: Path) -> list[Row]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                facts, table = file.metadata() or {}, file.get_tensor("embeddings")
        except SafetensorError as error:
            raise ValueError("no embeddings") from error
        same = {name: facts[name] for name in self.columns.same}
        inputs = json.loads(facts["inputs"])
        return [{self.columns.key: name, **same, "embedding": row} for name, row in zip(inputs, table, strict=True)]


def as_numbers(embedding: Any) -> list[float]:
    """An embedding, (D,) float32, as a field of a row: the shortest numbers that are the same in float32."""
    return [float(str(number)) for number in embedding]


TABLES = (".csv", ".jsonl", ".parquet")
EMBEDDINGS = (".safetensors", ".parquet", ".jsonl")  # a spreadsheet can do nothing with a thousand columns


def layout_of(path: Path, columns: Columns) -> JSONLines | CSV | Parquet | Embeddings:
    """The form of a file, by its ending."""
    match path.suffix.lower():
        case ".csv":
            return CSV(columns.names)
        case ".parquet":
            return Parquet(columns)
        case ".safetensors":
            return Embeddings(columns)
        case _:
            return JSONLines()


def read_rows(path: Path, columns: Columns) -> list[Row]:
    """The rows of a file of results that is complete; none where it is not there. Cells of a csv are texts.

    Raises:
        StorageError: it is another file.
    """
    layout = layout_of(path, columns)
    try:
        if isinstance(layout, JSONLines | CSV):
            return layout.read(path.read_bytes().decode("utf-8", "surrogateescape"))
        return layout.read(path)
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: holds other results ({error}); choose another folder") from error


def read_table(path: Path) -> list[Row]:
    """The rows of a complete .csv, .jsonl or .parquet, whatever its columns are; none where it is not there.

    Raises:
        StorageError: it is another file.
        MissingExtraError: the package that reads such files is not installed.
    """
    check_ending(path, TABLES)
    names = ["id"]
    if path.suffix.lower() == ".parquet" and path.exists():
        from pyarrow import ArrowInvalid, parquet

        try:
            names = parquet.read_schema(path).names
        except ArrowInvalid as error:
            raise StorageError(f"{path}: is no Parquet ({one_line(error)})") from error
    return read_rows(path, Columns(names[0], {}, tuple(names[1:])))


def check_ending(path: Path, endings: Sequence[str]) -> None:
    """Check before any work that results can be written to this path, and read again.

    Raises:
        StorageError: its ending is another.
        MissingExtraError: the package for such files is not installed.
    """
    from importlib.util import find_spec

    if path.suffix.lower() not in endings:
        raise StorageError(f"{path}: results are written as {' or '.join(endings)}")
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "parquet")
