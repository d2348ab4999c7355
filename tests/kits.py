"""Small kits and installations: versions whose Python is a script that answers as a file of theirs says."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medge.runtime.kit.admission import this_target
from medge.runtime.kit.change import Changed, apply
from medge.runtime.kit.installation import Installation
from medge.runtime.kit.layout import Entry, Kit, Statement
from medge.runtime.kit.tree import differences
from medge.runtime.kit.writing import write_kit
from medge.runtime.station.station import Station
from medge.runtime.station.store.backup import DATABASE
from medge.runtime.station.store.schema import STEPS

TODAY = datetime(2026, 11, 27, tzinfo=UTC)
PYTHON = f'#!/bin/sh\nexec {sys.executable} -S "$(dirname "$0")/../../packages/answer.py" "$@"\n'
ANSWER = """
import json, sqlite3, sys, time
from pathlib import Path
say = json.loads((Path(__file__).parent / "behaviour.json").read_text())
words = sys.argv[1:]
assert words[:3] == ["-m", "medge", "kit"], words

def upgrade(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > say["schema"]:
        print(json.dumps({"good": False, "note": f"the store is of version {found}"}))
        sys.exit(1)
    for number in range(found + 1, say["schema"] + 1):
        connection.execute(f"ALTER TABLE studies ADD COLUMN new_{number} TEXT NOT NULL DEFAULT ''")
        connection.execute(f"PRAGMA user_version = {number}")
    connection.execute("COMMIT")
    connection.close()

time.sleep(say["seconds"])
if words[3] == "migrate":
    if say["enters"]:
        connection = sqlite3.connect(Path(words[4]) / "station.sqlite")
        connection.execute("INSERT INTO audit VALUES (NULL, 1, 'x', 'x', 'x', '{}', 'x', 'x')")
        connection.commit()
        connection.close()
    if (Path(words[4]) / "station.sqlite").is_file():
        upgrade(Path(words[4]) / "station.sqlite")
    print(json.dumps({"good": say["migrates"], "note": "what it says"}))
else:
    where = "current" if "/current/" in words[words.index("--bundles") + 1] else "aside"
    if "--database" in words:
        upgrade(words[words.index("--database") + 1])
    good = say["good"] and say[where]
    results = [{"what": "golden results", "good": good, "note": "0.9, and at most 0.1 is right", "seconds": 0.1}]
    print(json.dumps({"good": good, "medge": say["medge"], "schema": say["schema"], "results": results}))
    sys.exit(0 if good else 1)
"""


@dataclass(frozen=True)
class Behaviour:
    """How a version answers.

    Attributes:
        good: its self-test, wherever it is.
        aside, current: its self-test before the switch, and where it runs.
        migrates: what it says when it has brought the store up to date.
        enters: it also enters something into the store then, as a station that runs does.
        schema: of its store's tables.
        seconds: that it takes to answer.
    """

    good: bool = True
    aside: bool = True
    current: bool = True
    migrates: bool = True
    enters: bool = False
    schema: int = len(STEPS)
    seconds: float = 0.0


def files_of(counter: int, behaviour: Behaviour, more: Mapping[str, bytes]) -> dict[str, bytes]:
    """{path: content} of a version."""
    said = {**behaviour.__dict__, "medge": f"0.{counter}"}
    return {
        "python/bin/python3.12": PYTHON.encode(), "packages/answer.py": ANSWER.encode(),
        "packages/behaviour.json": json.dumps(said).encode(), "bundles/eyes/manifest.json": b"{}",
        "bundles/eyes/model.onnx": b"weights" * 5000, "docs/index.html": f"<p>{counter}</p>".encode(),
        "docs/same.html": b"<p>always</p>", **more,
    }  # fmt: skip


def entries_of(files: Mapping[str, bytes]) -> tuple[Entry, ...]:
    """As a statement lists them; python3 is a link."""
    found = [
        Entry(path, path.split("/")[0] if not path.startswith("bundles/") else "bundles/eyes",
              hashlib.sha256(content).hexdigest(), len(content), 493 if path.startswith("python/bin") else 420)
        for path, content in files.items()
    ]  # fmt: skip
    found.append(Entry("python/bin/python3", "python", link="python3.12"))
    return tuple(sorted(found, key=lambda one: one.path))


def make_kit(
    folder: Path, counter: int, behaviour: Behaviour = Behaviour(), *, more: Mapping[str, bytes] | None = None,
    sign: Any = lambda path: b"signed", **facts: Any,
) -> Kit:  # fmt: skip
    """A kit's folder; with a `base` in `facts`, only pieces that `without` lacks."""
    without = facts.pop("without", None)
    files = files_of(counter, behaviour, more or {})
    given = {"created": f"2026-01-{counter:02}T00:00:00Z", "target": this_target(), **facts}
    statement = Statement("station", f"0.{counter}", counter, entries=entries_of(files), **given)
    there = set() if without is None else {entry.sha256 for entry in without.entries}
    pieces = {hashlib.sha256(content).hexdigest(): content for content in files.values()}
    return write_kit(folder, statement, {name: one for name, one in pieces.items() if name not in there}, {}, sign)


def trusting(path: Path, signature: Path, folder: Path) -> str:
    """A `Verify` that takes every kit."""
    return "the makers"


def installed(prefix: Path) -> Installation:
    """An installation without a version, beside a station with a study, a user and a token."""
    here = Installation.create(prefix, prefix / "data", this_target())
    if not here.store.exists():
        with Station.open(here.store) as station:
            station.put(picture(), who="CT1")
            station.set("language", "sw", who="ann")
        with sqlite3.connect(here.store / DATABASE) as connection:
            connection.execute("INSERT INTO users VALUES ('ann', 'ann', 'hash', 'admin', 1, 1)")
        connection.close()
        (here.store / "tls").mkdir()
        (here.store / "tls" / "station.key").write_text("a key")
    return here


def picture() -> bytes:
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.new("L", (8, 8), 7).save(stream, "png")
    return stream.getvalue()


def bring(here: Installation, stick: Path, **more: Any) -> Changed:
    """Apply a kit."""
    return apply(here, stick, trusting, clock=more.pop("clock", TODAY), **more)


def own(here: Installation) -> dict[str, Any]:
    """What belongs to the clinic: studies, users, tokens, settings and keys, whatever the version of the tables."""
    connection = sqlite3.connect(here.store / DATABASE)
    try:
        columns = {"studies": "uid, patient_id", "users": "*", "tokens": "*", "settings": "*", "instances": "*"}
        rows = {
            table: connection.execute(f"SELECT {names} FROM {table} ORDER BY 1").fetchall()
            for table, names in columns.items()
        }
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    finally:
        connection.close()
    kept = [
        path for folder in ("objects", "tls") for path in sorted((here.store / folder).rglob("*")) if path.is_file()
    ]
    files = {path.relative_to(here.store): path.read_bytes() for path in kept if not path.name.startswith(".")}
    return {**rows, "files": files}


def schema_here(here: Installation) -> int:
    connection = sqlite3.connect(here.store / DATABASE)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def schema_of_version(here: Installation, counter: int) -> int:
    return int(json.loads((here.folder(counter) / "packages" / "behaviour.json").read_text())["schema"])


def broken(here: Installation, before: Mapping[str, Any], allowed: set[int | None]) -> list[str]:
    """What is not as it must be at every moment: the version that runs is whole and can read the store; the clinic's own is as it
    was."""
    here = Installation.open(here.prefix)
    current = here.current()
    found = [] if current in allowed else [f"version {current} runs"]
    if current is not None:
        found += differences(here.version(current))
        if schema_here(here) > schema_of_version(here, current):
            found.append(f"version {current} can't read the store")
    if own(here) != before:
        found.append("the clinic's own has changed")
    return found


def leftovers(here: Installation) -> list[str]:
    """What an ended run has no business to leave."""
    return sorted(
        str(path.relative_to(here.prefix)) for path in [*here.prefix.iterdir(), *here.versions.iterdir(), *here.store.iterdir()]
        if path.name.startswith(".")
    )  # fmt: skip
