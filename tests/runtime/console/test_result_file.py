"""Results that are written as they come."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from medge.runtime.console.result_file import ResultFile
from medge.runtime.errors import StorageError

ROWS = [{"image": "a, b.dcm", "bundle": "int8", "best": "x"}, {"image": 'c "d"\n.dcm', "bundle": "int8", "best": "ż"}]


def opened(path: Path, *, bundle: str = "int8", force: bool = False) -> ResultFile:
    return ResultFile(path, ["image", "bundle", "best"], key="image", same={"bundle": bundle}, force=force)


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
        assert file.done == {ROWS[0]["image"]}
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
        assert file.done == set()
    with pytest.raises(StorageError, match=r"written as \.jsonl or \.csv"):
        opened(tmp_path / "r.xlsx")
