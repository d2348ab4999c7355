"""Index files: pages of the database, facts, paths, vectors and the search graph."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..mutate import byte_edits, edit_bytes
from ..verdict import Kind, WrongError
from . import manifest

INDEX, SIZE, IMAGES = "films.index", 16, 24
_VALUES: tuple[Any, ...] = (None, "", "x", "2", "3", -1, 0, 2**62, 1.5, "\x1b[31m", "a" * 10000)


class _Encoder:
    """What `build_index` needs of an encoder: an embedding that a path's name says."""

    fingerprint = "0" * 64 + "/eval-tf"

    def stream_images(self, sources: Any, **_: Any) -> Any:
        for source in sources:
            yield source, embedding(Path(source).stem)


def embedding(name: str) -> NDArray[np.float32]:
    vector = np.random.default_rng(sum(name.encode())).standard_normal(SIZE).astype(np.float32)
    found: NDArray[np.float32] = vector / np.linalg.norm(vector)
    return found


def write_index(base: Path) -> None:
    from medge.runtime.encoder.vector_index import build_index

    encoder: Any = _Encoder()
    build_index(base / INDEX, encoder, [Path(f"/films/{number:02}.png") for number in range(IMAGES)])


def make(rng: random.Random, base: Path) -> bytes:
    data = (base / INDEX).read_bytes()
    if rng.random() < 0.35:
        return json.dumps({"do": "bytes", "edits": byte_edits(rng, data, head=200)}).encode()
    with contextlib.closing(sqlite3.connect(base / INDEX)) as database:
        facts = dict(database.execute("SELECT key, value FROM facts").fetchall())
    edits: list[list[Any]] = []
    for _ in range(rng.choice((1, 1, 2))):
        action = rng.choice(("fact", "fact", "graph", "graph", "graph", "vector", "vector", "path", "path", "sql"))
        if action == "fact":
            edits.append([action, rng.choice([*facts, "extra"]), rng.choice(_VALUES)])
        elif action == "graph":
            edits.append([action, byte_edits(rng, facts["graph"], head=200)])
        elif action == "vector":
            edits.append(
                [
                    action,
                    rng.randrange(IMAGES) + 1,
                    rng.choice(("nan", "inf", "zero", "short", "long", "text", "null", "odd", "none", "other")),
                ]
            )
        elif action == "path":
            edits.append([action, rng.randrange(IMAGES) + 1, rng.choice(_VALUES)])
        else:
            edits.append([action, rng.choice((
                "DROP TABLE items", "DROP TABLE facts", "DELETE FROM items", "DELETE FROM facts",
                "ALTER TABLE items DROP COLUMN vector",
                "UPDATE items SET id = id + 1000", "UPDATE items SET id = -id",
                "INSERT INTO items SELECT id + 100, path || 'x', vector FROM items",
                "CREATE TRIGGER t AFTER INSERT ON facts BEGIN DELETE FROM items; END", "PRAGMA user_version = 99",
                "DELETE FROM items WHERE id < 5",
                "DROP TABLE items; CREATE VIEW items AS SELECT 1 AS id, 'x' AS path, x'00' AS vector",
                "DROP TABLE items; CREATE VIEW items AS WITH RECURSIVE r(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM r) "
                "SELECT id, 'x' AS path, x'00000000' AS vector FROM r", "PRAGMA journal_mode = WAL",
                "PRAGMA encoding = 'UTF-16'",
            ))])  # fmt: skip
    return json.dumps({"do": "sql", "edits": edits}).encode()


def _edit(path: Path, edits: list[list[Any]]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        for action, *rest in edits:
            with contextlib.suppress(sqlite3.Error, OverflowError), database:
                if action == "sql":
                    database.executescript(rest[0])
                elif action == "fact":
                    database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", rest)
                elif action == "graph":
                    graph = database.execute("SELECT value FROM facts WHERE key = 'graph'").fetchone()
                    graph = bytes(graph[0] or b"") if graph and isinstance(graph[0], bytes) else b""
                    database.execute("INSERT OR REPLACE INTO facts VALUES ('graph', ?)", (edit_bytes(graph, rest[0]),))
                elif action == "path":
                    database.execute("UPDATE items SET path = ? WHERE id = ?", (rest[1], rest[0]))
                else:
                    database.execute("UPDATE items SET vector = ? WHERE id = ?", (_vector(rest[1]), rest[0]))


def _vector(what: str) -> Any:
    sound = embedding("other").tobytes()
    made = {
        "nan": np.full(SIZE, np.nan, np.float32).tobytes(), "inf": np.full(SIZE, np.inf, np.float32).tobytes(),
        "zero": bytes(4 * SIZE),
        "short": sound[:-4], "long": sound + sound, "text": "text", "null": None, "odd": sound[:-1], "none": b"",
        "other": sound,
    }  # fmt: skip
    return made[what]


def run(content: bytes, place: Path, base: Path) -> None:
    from medge.runtime.encoder.vector_index import VectorIndex

    case, path = json.loads(content), place / INDEX
    data = (base / INDEX).read_bytes()
    path.write_bytes(edit_bytes(data, case["edits"]) if case["do"] == "bytes" else data)
    if case["do"] == "sql":
        _edit(path, case["edits"])
    query, sound = embedding("07"), {f"/films/{number:02}.png": embedding(f"{number:02}") for number in range(IMAGES)}
    with VectorIndex.open(path, _Encoder.fingerprint) as index:
        found = index.search(query, 5), index.search(query, 10_000)
        json.dumps(index.facts())
        _check(query, found, [sound, _stored(index)])
        index.remove([Path(found[0][0].path)])  # the graph is made anew, of the stored vectors
        found = index.search(query, 5), index.search(query, 10_000)
        _check(query, found, [_stored(index)])


def _stored(index: Any) -> dict[str, NDArray[np.float32]]:
    """The sound vectors of the file; a page's own bytes may hold another finite one."""
    rows = index._db.execute("SELECT path, vector FROM items").fetchall()
    whole = {
        path: np.frombuffer(vector, np.float32)
        for path, vector in rows
        if isinstance(vector, bytes) and len(vector) == 4 * SIZE
    }
    return whole if len(whole) == len(rows) else {}


def _check(
    query: NDArray[np.float32], found: tuple[list[Any], list[Any]], allowed: list[dict[str, NDArray[np.float32]]]
) -> None:
    """Hits are what one of these sets of vectors says, best first."""
    for hits in found:
        for hit in hits:
            if not isinstance(hit.path, str):  # a file may have any name; what a terminal would obey is for its printer
                raise WrongError(f"a hit's path is {hit.path!r}"[:200])
            if not np.isfinite(hit.cosine):
                raise WrongError("a hit's cosine is not finite")
    few, every = found
    for vectors in allowed:
        true = {path: float(vector @ query) for path, vector in vectors.items()}
        if (
            len(every) == len(true)
            and len(few) == min(5, len(true))
            and all(abs(hit.cosine - true.get(hit.path, 9)) < 1e-3 for hit in (*few, *every))
        ):
            return
    raise WrongError(f"{len(few)} and {len(every)} hits are not those of the stored vectors: {few[:2]}"[:300])


KIND = Kind(
    make,
    run,
    modules=(*manifest.KIND.modules, "usearch.index", "medge.runtime.encoder.vector_index"),
    batch=40,
    share=2,
)
