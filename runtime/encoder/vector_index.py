"""A vector index in one file: embeddings, paths and the search graph, for text-to-image and image-to-image retrieval.

The file is an SQLite database that carries a usearch graph. SQLite gives what an archive needs: one file, atomic
commits, and so an interrupted build that resumes; usearch gives the search. A build works under a hidden name and is
renamed when complete. The index names the bundle that made it and refuses another's embeddings.

An image is known by its absolute path, so that the same file is there once however it was given; or by its path below one
folder, so that an archive can be moved together with its index.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..bundles.atomic import replace_file
from ..errors import ImageError, IndexFileError, StorageError, storage_errors
from ..pictures.view import DEFAULT_VIEW, View
from ..progress import Progress, no_progress

if TYPE_CHECKING:
    from .encoder import Encoder

VERSION = "2"  # names are absolute, or relative to one folder
# What SQLite says of the place where a file lies, rather than of the file.
_REFUSED = {
    sqlite3.SQLITE_FULL: "no space left", sqlite3.SQLITE_IOERR: "the disk refuses",
    sqlite3.SQLITE_READONLY: "the file can't be written",
}  # fmt: skip
COMMIT_EVERY = 32  # images; what an interruption costs at most


@dataclass(frozen=True)
class Hit:
    """One result: the image's path and its cosine with the query."""

    path: str
    cosine: float


@dataclass(frozen=True)
class Added:
    """What a build did: new images, those already there, and those that can't be read with the reason."""

    added: int
    present: int
    failed: tuple[str, ...]


class VectorIndex:
    """An open index file. Use `VectorIndex.open` to search or add, `build_index` to make one.

    Examples:
        >>> encoder = medge.load_encoder("bundle")
        >>> _ = medge.build_index(Path("open.medge"), encoder, [Path("film.dcm")])
        >>> with medge.VectorIndex.open(Path("open.medge"), encoder.fingerprint) as index:
        ...     print(index, Path(index.search(encoder.embed_texts("an abdomen CT")[0])[0].path).name)
        <VectorIndex open.medge: 1 image> film.dcm
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._db = path, connection
        self._graph: Any = None

    def __repr__(self) -> str:
        count = len(self)
        return f"<VectorIndex {self.path.name}: {count:,} image{'s' * (count != 1)}>"

    @property
    def relative(self) -> bool:
        """Whether images are known by their paths below a folder."""
        return self._facts().get("relative") == "1"

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, fingerprint: str | None) -> Iterator[VectorIndex]:
        """Open an existing index.

        Args:
            path: the file.
            fingerprint: of the bundle that must have made it; None where no embedding is added or searched.

        Raises:
            IndexFileError: missing, damaged, or of another bundle.
            StorageError: the disk is full, or the file can't be written.
        """
        if not path.is_file():
            raise IndexFileError(f"{path} does not exist; make it with 'medge index build'")
        try:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                index = cls(path, connection)
                facts = index._facts()
                if facts.get("version") != VERSION:
                    raise IndexFileError(
                        f"{path} has index format {facts.get('version')}, this medge reads {VERSION}; build it again with "
                        "'medge index build --force'"
                    )
                if fingerprint is not None and facts.get("fingerprint") != fingerprint:
                    raise IndexFileError(
                        f"{path} was made with another bundle or profile; search it with that one, or rebuild"
                    )
                yield index
        except sqlite3.DatabaseError as error:
            if reason := _REFUSED.get(getattr(error, "sqlite_errorcode", 0) & 0xFF):
                raise StorageError(
                    f"writing {path}: {reason}; what was embedded before is kept, and the same command goes on"
                ) from error
            raise IndexFileError(f"{path} is no index, or damaged ({error})") from error

    def _facts(self) -> dict[str, str]:
        return dict(self._db.execute("SELECT key, value FROM facts WHERE key != 'graph'").fetchall())

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM items").fetchone()[0])

    def facts(self) -> dict[str, Any]:
        """What the index says of itself, for `medge index info`."""
        row = self._db.execute("SELECT vector FROM items LIMIT 1").fetchone()
        model, _, profile = self._facts()["fingerprint"].partition("/")
        return {
            "images": len(self), "size": len(row[0]) // 4 if row else 0, "bytes": self.path.stat().st_size,
            "paths": "relative" if self.relative else "absolute", "profile": profile, "vision_sha256": model,
        }  # fmt: skip

    def name(self, path: Path, base: Path | None) -> str:
        """What an image is known by.

        Args:
            path: of the image.
            base: the folder that names are relative to, where they are.

        Raises:
            IndexFileError: the index's names are of the other kind, or the image is not below the folder.
        """
        if self.relative != (base is not None):
            kind, hint = ("relative", "say to which folder with") if self.relative else ("absolute", "leave out")
            raise IndexFileError(f"{self.path}: the paths in it are {kind}; {hint} --relative-to")
        whole = path.resolve()
        if base is None:
            return str(whole)
        if not whole.is_relative_to(base.resolve()):
            raise IndexFileError(f"{path} is not below {base}")
        return whole.relative_to(base.resolve()).as_posix()

    def remove(self, images: Iterable[Path], base: Path | None = None) -> int:
        """Take images, or all images below folders, out of the index; the files may be gone already.

        Returns:
            how many were taken out.

        Raises:
            IndexFileError: one of them is not in the index; nothing is taken out then.
        """
        removed = 0
        with self._db:
            for path in images:
                name = self.name(path, base)
                below = f"{name}{os.sep if base is None else '/'}"
                found = self._db.execute(
                    "DELETE FROM items WHERE path = ? OR substr(path, 1, ?) = ? OR ? = '.'",
                    (name, len(below), below, name),
                ).rowcount
                if not found:
                    raise IndexFileError(f"{self.path} holds no {path}, nor anything below it")
                removed += found
            self._db.execute("DELETE FROM facts WHERE key IN ('graph', 'graph_count')")
        self._write_graph()
        return removed

    def add(
        self, encoder: Encoder, images: Iterable[Path], progress: Progress = no_progress, *, view: View = DEFAULT_VIEW,
        base: Path | None = None,
    ) -> Added:  # fmt: skip
        """Embed and store images that are not in the index yet; commits as it goes."""
        known = {row[0] for row in self._db.execute("SELECT path FROM items")}
        paths = {self.name(path, base): str(path) for path in images}
        names = {path: name for name, path in paths.items()}
        todo = [path for name, path in paths.items() if name not in known]
        failed: list[str] = []
        fresh: list[tuple[str, bytes]] = []
        for done, (source, item) in enumerate(encoder.stream_images(todo, view=view), 1):
            if isinstance(item, ImageError):
                failed.append(str(item))
            else:
                fresh.append((names[str(source)], item.astype(np.float32).tobytes()))
            if len(fresh) >= COMMIT_EVERY:
                self._store(fresh)
            progress("images", done, len(todo))
        self._store(fresh)
        self._write_graph()
        return Added(len(todo) - len(failed), len(paths) - len(todo), tuple(failed))

    def _store(self, fresh: list[tuple[str, bytes]]) -> None:
        with self._db:
            self._db.executemany("INSERT INTO items (path, vector) VALUES (?, ?)", fresh)
        fresh.clear()

    def _vectors(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        rows = self._db.execute("SELECT id, vector FROM items ORDER BY id").fetchall()
        if not rows:
            raise IndexFileError(f"{self.path} holds no images")
        vectors = np.frombuffer(b"".join(row[1] for row in rows), np.float32)
        return np.array([row[0] for row in rows], np.int64), vectors.reshape(len(rows), -1)

    def _write_graph(self) -> None:
        if not len(self):
            return
        from usearch.index import Index

        ids, vectors = self._vectors()
        graph = Index(ndim=vectors.shape[1], metric="cos", dtype="f32")
        graph.add(ids.astype(np.uint64), vectors)
        with self._db:
            values = [("graph", bytes(graph.save() or b"")), ("graph_count", str(len(ids)))]
            self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", values)
        self._graph = graph

    def search(self, query: NDArray[np.float32], count: int = 10) -> list[Hit]:
        """The images nearest to an embedding.

        Args:
            query: (D,) float32, of unit length, of an image or of a text.
            count: how many images.

        Returns:
            the hits, best first.

        Raises:
            IndexFileError: the index holds no images.
        """
        if self._graph is None:
            if len(self) and self._facts().get("graph_count") != str(len(self)):
                self._write_graph()  # an earlier `add` was interrupted after it had stored its embeddings
            elif len(self):
                from usearch.index import Index

                blob = self._db.execute("SELECT value FROM facts WHERE key = 'graph'").fetchone()[0]
                self._graph = Index.restore(blob)
        if self._graph is None:
            raise IndexFileError(f"{self.path} holds no images")
        wanted = min(count, len(self))
        # The graph finds nearly all of the nearest: where all are asked for, all must come.
        matches = self._graph.search(query.astype(np.float32), wanted, exact=wanted == len(self))
        hits = []
        for key, distance in zip(matches.keys, matches.distances, strict=True):
            path = self._db.execute("SELECT path FROM items WHERE id = ?", (int(key),)).fetchone()[0]
            hits.append(Hit(path, 1 - float(distance)))
        return hits


def build_index(
    path: Path, encoder: Encoder, images: Iterable[Path], *, view: View = DEFAULT_VIEW, base: Path | None = None,
    force: bool = False, progress: Progress = no_progress,
) -> tuple[Added, int]:  # fmt: skip
    """Make an index, or take up a build that was interrupted.

    Args:
        path: the file to make.
        encoder: what embeds.
        images: their paths.
        view: which frame and which window of a file.
        base: the folder that the index's paths are relative to; absolute paths where None.
        force: replace what is there.
        progress: called as work advances.

    Returns:
        what was done, and how many images an earlier, interrupted build had already embedded.

    Raises:
        StorageError: `path` exists and `force` is false, or the disk is full.

    Examples:
        >>> done, resumed = medge.build_index(Path("films.medge"), medge.load_encoder("bundle"), [Path("film.dcm")])
        >>> done.added, done.failed, resumed
        (1, (), 0)
    """
    if path.exists() and not force:
        raise StorageError(f"{path} exists; add to it with 'medge index add', or replace it with --force")
    partial = path.with_name(f".{path.name}.building")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _begin(partial, encoder.fingerprint, view, relative=base is not None)
        with VectorIndex.open(partial, encoder.fingerprint) as index:
            resumed = len(index)
            done = index.add(encoder, images, progress, view=view, base=base)
            if not len(index):
                first = f"; the first problem: {done.failed[0]}" if done.failed else ""
                raise IndexFileError(f"{path}: no image could be read, so there is nothing to search{first}")
        replace_file(partial, path)
    return done, resumed


def _begin(partial: Path, fingerprint: str, view: View, *, relative: bool) -> None:
    """Create the file of a build, or keep what an interrupted build by the same bundle, of the same view, has left."""
    if partial.exists():
        try:
            with VectorIndex.open(partial, fingerprint) as index:
                if index.relative == relative and index._facts().get("view") == str(view):
                    return
        except IndexFileError:
            pass
        partial.unlink()  # of another bundle or view, with other paths, or damaged: nothing that could be taken up
    with contextlib.closing(sqlite3.connect(partial)) as connection, connection:
        connection.execute("CREATE TABLE facts (key TEXT PRIMARY KEY, value)")
        connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, path TEXT UNIQUE, vector BLOB)")
        facts = [
            ("version", VERSION), ("fingerprint", fingerprint), ("relative", str(int(relative))), ("view", str(view)),
        ]  # fmt: skip
        connection.executemany("INSERT INTO facts VALUES (?, ?)", facts)
