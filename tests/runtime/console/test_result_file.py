"""Results that are written as they come."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from medge.runtime.console.layouts import EMBEDDINGS, TABLES, Columns, as_numbers, check_ending, read_rows
from medge.runtime.console.result_file import ResultFile
from medge.runtime.errors import MissingExtraError, StorageError

ROWS = [{"image": "a, b.dcm", "bundle": "int8", "best": "x"}, {"image": 'c "d"\n.dcm', "bundle": "int8", "best": "ż"}]


def opened(path: Path, *, bundle: str = "int8", force: bool = False) -> ResultFile:
    return ResultFile(path, Columns("image", {"bundle": bundle}, ("best",)), force=force)


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_what_was_written_is_gone_on_with(tmp_path: Path, name: str) -> None:
    path = tmp_path / "deep" / name
    with opened(path) as file:
        file.add(ROWS[0])
        assert ROWS[0]["image"] in path.read_text()  # at once, not when the file is closed
    whole = path.read_bytes()
    with path.open("ab") as stream:  # a process that was killed in the middle of a row
        stream.write(b'{"image": "half' if name.endswith("jsonl") else b"half,int")
    with opened(path) as file:
        assert set(file.done) == {ROWS[0]["image"]}
        assert path.read_bytes() == whole
        file.add(ROWS[1])
    text = path.read_text(encoding="utf-8")
    read = (
        list(csv.DictReader(path.open(newline="")))
        if name.endswith("csv")
        else list(map(json.loads, text.splitlines()))
    )
    assert read == ROWS


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_other_results_are_not_overwritten(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with opened(path) as file:
        file.add(ROWS[0])
    before = path.read_bytes()
    with pytest.raises(StorageError, match="holds other results .*--force"):
        opened(path, bundle="int4")
    (tmp_path / f"notes{path.suffix}").write_text("my own notes\n")
    with pytest.raises(StorageError, match="holds other results"):
        opened(tmp_path / f"notes{path.suffix}")
    assert path.read_bytes() == before
    with opened(path, bundle="int4", force=True) as file:
        assert set(file.done) == set()
    with pytest.raises(StorageError, match=r"written as \.csv or \.jsonl or \.parquet"):
        check_ending(tmp_path / "r.xlsx", TABLES)


def read_parquet(path: Path) -> list[dict[str, object]]:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    return list(parquet.read_table(path).to_pylist())


def test_parquet_is_written_at_the_end_and_survives_an_interruption(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path, hidden = tmp_path / "r.parquet", tmp_path / ".r.parquet.rows"
    columns = Columns("image", {"bundle": "int8"}, ("best",), ("x",))
    rows = [{**row, "x": share} for row, share in zip(ROWS, (0.25, None), strict=True)]
    with pytest.raises(KeyboardInterrupt), ResultFile(path, columns) as file:
        file.add(rows[0])
        raise KeyboardInterrupt
    assert not path.exists()
    with hidden.open("ab") as stream:  # a process that was killed in the middle of a row
        stream.write(b'{"image": "half')
    with ResultFile(path, columns) as file:
        assert set(file.done) == {rows[0]["image"]}
        file.add(rows[1])
    assert read_parquet(path) == rows
    assert not hidden.exists()
    third = {"image": "e.dcm", "bundle": "int8", "best": "x", "x": 1.0}
    with ResultFile(path, columns) as file:  # with another image
        assert len(file.done) == 2
        file.add(third)
    assert read_parquet(path) == [*rows, third]
    with pytest.raises(StorageError, match="holds other results"):
        ResultFile(path, Columns("image", {"bundle": "int4"}, ("best",), ("x",)))
    with pytest.raises(StorageError, match="no UTF-8"), ResultFile(path, columns) as file:
        file.add({**third, "image": "\udcff.dcm"})


def test_rows_of_another_question_beside_a_whole_file_are_not_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    row = np.ones(3, np.float32)
    with pytest.raises(KeyboardInterrupt), ResultFile(path, Columns("image", {"model": "a"})) as file:
        file.add({"image": "a.dcm", "model": "a", "embedding": as_numbers(row)})
        raise KeyboardInterrupt
    with ResultFile(path, Columns("image", {"model": "b"})) as file:
        assert set(file.done) == set()
        file.add({"image": "b.dcm", "model": "b", "embedding": as_numbers(2 * row)})
    np.testing.assert_array_equal(load_file(path)["embeddings"], [[2, 2, 2]])
    with safe_open(path, "np") as found:
        assert found.metadata() == {"inputs": '["b.dcm"]', "model": "b"}
    assert [path.name for path in tmp_path.iterdir()] == ["e.safetensors"]


@pytest.mark.parametrize("name", ["e.safetensors", "e.parquet", "e.jsonl"])
def test_embeddings_are_the_same_in_every_form_after_a_stop(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path, table = tmp_path / name, np.random.default_rng(3).normal(size=(3, 5)).astype(np.float32)
    table[0, :2] = 1e-42, np.nextafter(np.float32(1), np.float32(2))
    columns = Columns("image", {"model": "a"}, vectors=("embedding",))
    rows = [{"image": f"{n}.dcm", "model": "a", "embedding": as_numbers(row)} for n, row in enumerate(table)]
    with pytest.raises(KeyboardInterrupt), ResultFile(path, columns) as file:
        file.add(rows[0])
        raise KeyboardInterrupt
    for row in rows[1:]:  # into a file that is whole by then, too
        with ResultFile(path, columns) as file:
            file.add(row)
    found = read_rows(path, columns)
    assert [row["image"] for row in found] == ["0.dcm", "1.dcm", "2.dcm"]
    np.testing.assert_array_equal(np.array([row["embedding"] for row in found], np.float32), table)
    if name.endswith("parquet"):
        assert read_parquet(path)[1]["embedding"] == table[1].tolist()


def test_a_missing_package_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'medge\[parquet\]'"):
        check_ending(tmp_path / "r.parquet", TABLES)
    with pytest.raises(StorageError, match=r"written as \.safetensors or \.parquet or \.jsonl$"):
        check_ending(tmp_path / "r.csv", EMBEDDINGS)
