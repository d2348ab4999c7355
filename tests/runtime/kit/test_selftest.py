"""A version tests itself, and updates from medge to medge: with its own Python code and a real model."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import command_line
import kits
import pytest

import medge
from medge.runtime.errors import KitError
from medge.runtime.kit.admission import this_target
from medge.runtime.kit.change import problems, rollback
from medge.runtime.kit.installation import Installation
from medge.runtime.kit.layout import Statement
from medge.runtime.kit.selftest import selftest, upgraded
from medge.runtime.kit.writing import write_kit
from medge.runtime.station.station import Station
from medge.runtime.station.store.backup import DATABASE
from medge.runtime.station.store.database import Database
from medge.runtime.station.store.schema import STEPS


@pytest.fixture
def bundles(bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(bundle, tmp_path / "bundles" / "eyes")
    return tmp_path / "bundles"


def test_all_is_well(bundles: Path, tmp_path: Path) -> None:
    with Station.open(tmp_path / "store") as station:
        station.put(kits.picture(), who="CT1")
    found = list(selftest(bundles, tmp_path / "store" / DATABASE))
    assert [(one.what, one.good) for one in found] == [
        ("golden results of eyes", True), ("a study from end to end", True), ("the store's tables", True),
    ]  # fmt: skip
    assert [one.note for one in found[1:]] == ["eyes has done classify", "1 studies"]


def test_a_model_that_is_not_what_it_was(bundles: Path) -> None:
    """Its bytes are not hashed here: its results say it."""
    model = next((bundles / "eyes").rglob("vision*.onnx"))
    content = bytearray(model.read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + 40_000, 7):
        content[at] ^= 0x5A
    model.write_bytes(bytes(content))
    found = list(selftest(bundles, None))
    assert not found[0].good


def test_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    [found] = selftest(tmp_path / "bundles", None)
    assert (found.good, "holds no bundle" in found.note) == (False, True)


def test_tables_that_lose_studies_or_history(tmp_path: Path) -> None:
    path = tmp_path / "store" / DATABASE
    path.parent.mkdir()
    Database(path, make=True, steps=STEPS[:1]).close()
    assert upgraded(path) == (True, "0 studies")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT INTO audit VALUES (7, 1, 'x', 'x', 'x', '{}', 'x', 'x')")
    connection.close()
    assert upgraded(path) == (False, "entry 1 is missing; the next one is 7")


def real_kit(stick: Path, counter: int, bundle: Path, *, steps: bool = False, wrong: bool = False) -> None:
    """A kit with medge's own code, which runs on this environment's Python.

    Args:
        stick: its folder.
        counter: the kit's.
        bundle: the model.
        steps: its store has a table more.
        wrong: its golden results are another model's.
    """
    root = Path(medge.__file__).parent
    files = {
        f"packages/medge/{path.relative_to(root).as_posix()}": path.read_bytes()
        for folder in (root, root / "runtime") for path in sorted(folder.rglob("*") if folder != root else folder.glob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }  # fmt: skip
    if steps:
        name = "packages/medge/runtime/station/store/schema.py"
        more = b"\nSTEPS = (*STEPS, ('CREATE TABLE more (x)',))\n"
        # `STEPS` is a default of others' arguments: it must be the longer one before they are made.
        files[name] = files[name].replace(b"\n\ndef version(", more + b"\n\ndef version(", 1)
    for path in sorted(bundle.rglob("*")):
        if path.is_file():
            files[f"bundles/eyes/{path.relative_to(bundle).as_posix()}"] = path.read_bytes()
    if wrong:
        vision = next(name for name in files if "vision" in name and name.endswith(".onnx"))
        files[vision] = files[vision][:-30_000] + bytes(30_000)
    files["python/bin/python3.12"] = f'#!/bin/sh\nexec {sys.executable} "$@"\n'.encode()
    statement = Statement(
        "station", medge.__version__, counter, "2026-01-01T00:00:00Z", this_target(), kits.entries_of(files)
    )
    pieces = {entry.sha256: files[entry.path] for entry in statement.entries if entry.sha256 is not None}
    write_kit(stick, statement, pieces, {}, lambda path: b"signed")


def test_medge_updates_itself_and_goes_back(bundle: Path, tmp_path: Path) -> None:
    """A station with a study: installed, updated to other tables, back; and a model that computes wrongly never comes to run."""
    here = Installation.create(tmp_path / "prefix", tmp_path / "data", this_target())
    with Station.open(here.store) as station:
        station.put(kits.picture(), who="CT1")
    real_kit(tmp_path / "one", 1, bundle)
    kits.bring(here, tmp_path / "one")
    real_kit(tmp_path / "two", 2, bundle, steps=True)
    changed = kits.bring(here, tmp_path / "two")
    assert (here.current(), kits.schema_here(here)) == (2, len(STEPS) + 1)
    assert changed.laid is not None
    assert changed.laid.copied < 100_000 < changed.laid.linked
    real_kit(tmp_path / "three", 3, bundle, wrong=True)
    with pytest.raises(
        KitError, match="failed its self-test on this machine, and nothing was changed: golden results of eyes"
    ):
        kits.bring(here, tmp_path / "three")
    assert (here.current(), problems(here)) == (2, [])
    assert rollback(here).counter == 1
    with Station.open(here.store) as station:
        assert len(station.studies()) == 1
    said = command_line.medge("kit", "status", "--prefix", here.prefix, "--json")
    body = json.loads(said.stdout)
    assert [one["what"] for one in body["results"]] == ["installed", "updated", "failed its self-test", "rolled back"]
    assert (body["current"], body["whole"], body["versions"]) == (1, True, [1, 2])
