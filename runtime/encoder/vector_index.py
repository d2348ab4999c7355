"""A vector index in one file: embeddings, paths and the search graph, for text-to-image and image-to-image retrieval.

The file is an SQLite database that carries a usearch graph. SQLite gives what an archive needs: one file, atomic
commits, and so an interrupted build that resumes; usearch gives the search. A build works under a hidden name and is
renamed when complete. The index names the bundle that made it and refuses another's embeddings.

An image is known by its absolute path, so that the same file is there once however it was given; or by its path below one
folder, so that an archive can be moved together with its index.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..bundles.atomic import refuse_special, replace_file
from ..bundles.claim import claimed
from ..bundles.tensors import check_unit_length
from ..errors import ImageError, IndexFileError, StorageError, one_line, storage_errors
from ..pictures.images import Refused
from ..pictures.view import DEFAULT_VIEW, View
from ..progress import Progress, no_progress
from .index_tables import TABLES, VERSION, forget_journal, make_tables, sqlite_errors, tables_of

if TYPE_CHECKING:
    from .encoder import Encoder

COMMIT_EVERY = 32  # images; what an interruption costs at most


@dataclass(frozen=True)
class Hit:
    """One result: the image's path and its cosine with the query."""

    path: str
    cosine: float


@dataclass(frozen=True)
class Added:
    """What a build did: new images, those already there, and those that can't be read."""

    added: int
    present: int
    failed: tuple[Refused, ...]


class VectorIndex:
    """An open index file. Use `VectorIndex.open` to search or add, `build_index` to make one.

    Threads can share it: each call waits for the one before.

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
        self._lock, self._closed = threading.RLock(), False

    def __repr__(self) -> str:
        if self._closed:
            return f"<VectorIndex {self.path.name}: closed>"
        count = len(self)
        return f"<VectorIndex {self.path.name}: {count:,} image{'s' * (count != 1)}>"

    @property
    def relative(self) -> bool:
        """Whether images are known by their paths below a folder."""
        with self._alone():
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

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> _ = medge.build_index(Path("opened.medge"), encoder, [Path("film.dcm")])
            >>> with medge.VectorIndex.open(Path("opened.medge"), encoder.fingerprint) as index:
            ...     len(index)
            1
        """
        if path.is_dir():
            raise IndexFileError(f"{path} is a folder; give the file that 'medge index build' made")
        if not path.is_file():
            raise IndexFileError(f"{path} does not exist; make it with 'medge index build'")
        with sqlite_errors(path), contextlib.closing(sqlite3.connect(path, check_same_thread=False)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            index = cls(path, connection)
            if tables_of(connection) != TABLES:
                raise IndexFileError(f"{path} is no index: its tables are others")
            facts = index._facts()
            if facts.get("version") != VERSION:
                raise IndexFileError(
                    f"{path} has index format {one_line(facts.get('version'), 40)}, this medge reads {VERSION}; build it "
                    "again with 'medge index build --force'"
                )
            if fingerprint is not None and facts.get("fingerprint") != fingerprint:
                raise IndexFileError(
                    f"{path} was made with another bundle or profile; search it with that one, or rebuild"
                )
            try:
                yield index
            finally:
                with index._lock:  # a search in another thread ends first
                    index._closed = True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """SQLite's connection is this thread's for as long.

        Raises:
            IndexFileError: the index was closed.
        """
        with self._lock:
            if self._closed:
                raise IndexFileError(f"{self.path} was closed; open it again")
            yield

    def _facts(self) -> dict[str, str]:
        return dict(self._db.execute("SELECT key, value FROM facts WHERE key != 'graph'").fetchall())

    def __len__(self) -> int:
        with self._alone():
            return int(self._db.execute("SELECT count(*) FROM items").fetchone()[0])

    def facts(self) -> dict[str, Any]:
        """What the index says of itself, for `medge index info`.

        Examples:
            >>> _ = medge.build_index(Path("facts.medge"), medge.load_encoder("bundle"), [Path("film.dcm")])
            >>> with medge.VectorIndex.open(Path("facts.medge"), None) as index:
            ...     index.facts()["images"], index.facts()["size"], index.facts()["paths"]
            (1, 192, 'absolute')
        """
        with self._alone():
            row = self._db.execute("SELECT length(vector) FROM items LIMIT 1").fetchone()
            model, _, profile = str(self._facts().get("fingerprint")).partition("/")
        return {
            "images": len(self), "size": int(row[0] or 0) // 4 if row else 0, "bytes": self.path.stat().st_size,
            "paths": "relative" if self.relative else "absolute", "profile": profile, "vision_sha256": model,
        }  # fmt: skip

    def name(self, path: Path, base: Path | None) -> str:
        """What an image is known by: its path with links followed, so that a file that several paths lead to is there once.

        A link below `base` to a file that is kept elsewhere is known by its own path.

        Args:
            path: of the image.
            base: the folder that names are relative to, where they are.

        Raises:
            IndexFileError: the index's names are of the other kind, or the image is not below the folder.

        Examples:
            >>> _ = medge.build_index(Path("name.medge"), medge.load_encoder("bundle"), [Path("film.dcm")])
            >>> with medge.VectorIndex.open(Path("name.medge"), None) as index:
            ...     index.name(Path("film.dcm"), None) == str(Path("film.dcm").resolve())
            True
        """
        if self.relative != (base is not None):
            kind, hint = ("relative", "say to which folder with") if self.relative else ("absolute", "leave out")
            raise IndexFileError(f"{self.path}: the paths in it are {kind}; {hint} --relative-to")
        whole = path.resolve()
        if base is None:
            return str(whole)
        folder = base.resolve()
        for found in (whole, path.parent.resolve() / path.name):
            if found.is_relative_to(folder):
                return found.relative_to(folder).as_posix()
        raise IndexFileError(f"{path} is not below {base}")

    def remove(self, images: Iterable[Path], base: Path | None = None) -> int:
        """Take images, or all images below folders, out of the index; the files may be gone already.

        Returns:
            how many were taken out.

        Raises:
            IndexFileError: one of them is not in the index; nothing is taken out then.
            StorageError: another process is changing the index.

        Examples:
            >>> _ = medge.build_index(Path("remove.medge"), medge.load_encoder("bundle"), [Path("film.dcm")])
            >>> with medge.VectorIndex.open(Path("remove.medge"), None) as index:
            ...     index.remove([Path("film.dcm")]), len(index)
            (1, 0)
        """
        with self._alone(), claimed(self.path):
            return self._remove(images, base)

    def _remove(self, images: Iterable[Path], base: Path | None) -> int:
        removed = 0
        with self._db:
            if self._whole():
                self._check_items()
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
            self._db.execute("DELETE FROM facts WHERE key LIKE 'graph%' OR key = 'items_sha256'")
        self._write_graph()
        return removed

    def add(
        self, encoder: Encoder, images: Iterable[Path], progress: Progress = no_progress, *, view: View = DEFAULT_VIEW,
        base: Path | None = None,
    ) -> Added:  # fmt: skip
        """Embed and store images that are not in the index yet; commits as it goes.

        Raises:
            StorageError: another process is changing the index.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> _ = medge.build_index(Path("add.medge"), encoder, [Path("film.dcm")])
            >>> with medge.VectorIndex.open(Path("add.medge"), encoder.fingerprint) as index:
            ...     index.add(encoder, [Path("film.dcm")]).added  # it is there already
            0
        """
        with self._alone(), claimed(self.path):
            return self._add(encoder, images, progress, view, base)

    def _add(
        self, encoder: Encoder, images: Iterable[Path], progress: Progress, view: View, base: Path | None
    ) -> Added:
        if self._whole():
            self._check_items()
        known = {row[0] for row in self._db.execute("SELECT path FROM items")}
        paths = {self.name(path, base): str(path) for path in images}
        names = {path: name for name, path in paths.items()}
        todo = [path for name, path in paths.items() if name not in known]
        failed: list[Refused] = []
        fresh: list[tuple[str, bytes]] = []
        for done, (source, item) in enumerate(encoder.stream_images(todo, view=view), 1):
            if isinstance(item, ImageError):
                failed.append(Refused(str(source), str(item)))
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
        sizes = {len(row[1]) if isinstance(row[1], bytes) else -1 for row in rows}
        try:
            if len(sizes) != 1 or min(sizes) < 4 or min(sizes) % 4:
                raise ValueError("embeddings differ in length")
            vectors = np.frombuffer(b"".join(row[1] for row in rows), np.float32).reshape(len(rows), -1)
            check_unit_length(vectors, "embedding")
        except ValueError as error:
            raise self._damaged(str(error)) from error
        return np.array([row[0] for row in rows], np.int64), vectors

    def _make_graph(self) -> Any:
        ids, vectors = self._vectors()
        graph = _usearch().Index(ndim=vectors.shape[1], metric="cos", dtype="f32")
        graph.add(ids.astype(np.uint64), vectors)
        return graph

    def _write_graph(self) -> None:
        if not len(self):
            return
        self._graph = self._make_graph()
        content = bytes(self._graph.save() or b"")
        with self._db:
            values = [
                ("graph", content), ("graph_count", str(len(self))), ("graph_bytes", str(len(content))),
                ("graph_sha256", hashlib.sha256(content).hexdigest()), ("items_sha256", self._items_sha256()),
            ]  # fmt: skip
            self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", values)

    def _items_sha256(self) -> str:
        """Of the images' numbers, names and embeddings."""
        whole = hashlib.sha256()
        for number, name, vector in self._db.execute("SELECT id, path, vector FROM items ORDER BY id"):
            if not (isinstance(name, str) and isinstance(vector, bytes)):
                raise self._damaged(f"image {number} has no name or no embedding")
            whole.update(f"{number}\0{name}\0{len(vector)}\0".encode("utf-8", "surrogateescape"))
            whole.update(vector)
        return whole.hexdigest()

    def _whole(self) -> bool:
        """Whether the graph is of all images: an `add` that was interrupted leaves an older one."""
        return self._facts().get("graph_count") == str(len(self))

    def _check_items(self) -> None:
        """Check that names and embeddings are those that were written with the graph.

        Raises:
            IndexFileError: they are others.
        """
        if self._items_sha256() != self._facts().get("items_sha256"):
            raise self._damaged("images were changed")

    def _stored_graph(self) -> Any:
        """The graph that the file carries. The library trusts what it reads: it is given nothing but what medge has written.

        Raises:
            IndexFileError: the graph or a name is not what was written.
        """
        facts = self._facts()
        content = self._db.execute("SELECT value FROM facts WHERE key = 'graph'").fetchone()
        if not content or not isinstance(content[0], bytes) or str(len(content[0])) != facts.get("graph_bytes"):
            raise self._damaged("the search graph was cut or is missing")
        if hashlib.sha256(content[0]).hexdigest() != facts.get("graph_sha256"):
            raise self._damaged("the search graph was changed")
        self._check_items()
        graph = _usearch().Index.restore(content[0])
        if graph is None or len(graph) != len(self):
            raise self._damaged("the search graph holds other images")
        return graph

    def _damaged(self, what: str) -> IndexFileError:
        return IndexFileError(f"{self.path} is damaged: {what}; build it again with 'medge index build --force'")

    def search(self, query: NDArray[np.float32], count: int = 10) -> list[Hit]:
        """The images nearest to an embedding.

        Args:
            query: (D,) float32, of unit length, of an image or of a text.
            count: how many images.

        Returns:
            the hits, best first.

        Raises:
            IndexFileError: the index is damaged or empty, or the query is no embedding of its bundle.

        Examples:
            >>> encoder = medge.load_encoder("bundle")
            >>> _ = medge.build_index(Path("search.medge"), encoder, [Path("film.dcm")])
            >>> with medge.VectorIndex.open(Path("search.medge"), encoder.fingerprint) as index:
            ...     [hit] = index.search(encoder.embed_images("film.dcm")[0], count=3)
            >>> Path(hit.path).name, hit.cosine > 0.99
            ('film.dcm', True)
        """
        with self._alone():
            return self._search(query, count)

    def _search(self, query: NDArray[np.float32], count: int) -> list[Hit]:
        if self._graph is None:
            if len(self) and not self._whole():
                # An `add` goes on, or was interrupted after it had stored embeddings. Searching never writes.
                self._graph = self._make_graph()
            elif len(self):
                self._graph = self._stored_graph()
        if self._graph is None:
            raise IndexFileError(f"{self.path} holds no images")
        if query.shape != (self._graph.ndim,) or not np.isfinite(query).all():
            raise IndexFileError(
                f"{self.path} is searched with {self._graph.ndim} finite numbers; a query of {query.shape} has not those"
            )
        wanted = min(count, len(self))
        # The graph finds nearly all of the nearest: where all are asked for, all must come.
        matches = self._graph.search(query.astype(np.float32), wanted, exact=wanted == len(self))
        hits = []
        for key, distance in zip(matches.keys, matches.distances, strict=True):
            found = self._db.execute("SELECT path FROM items WHERE id = ?", (int(key),)).fetchone()
            if found is None or not math.isfinite(distance):
                raise self._damaged(f"image {key} is missing, or its distance is no number")
            hits.append(Hit(found[0], 1 - float(distance)))
        return hits


def _usearch() -> Any:
    """The library. ONNX Runtime comes first: loaded after usearch's own kernels, it ends the process on some machines."""
    import onnxruntime  # noqa: F401
    from usearch import index

    return index


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
    refuse_special(path)
    if path.is_dir():
        raise StorageError(f"{path} is a folder; name a file")
    partial = path.with_name(f".{path.name}.building")
    with claimed(path), storage_errors(path):
        if path.exists() and not force:
            raise StorageError(f"{path} exists; add to it with 'medge index add', or replace it with --force")
        _begin(partial, encoder.fingerprint, view, relative=base is not None)
        with VectorIndex.open(partial, encoder.fingerprint) as index:
            resumed = len(index)
            done = index.add(encoder, images, progress, view=view, base=base)
            if not len(index):
                first = f"; the first problem: {done.failed[0].error}" if done.failed else ""
                raise IndexFileError(f"{path}: no image could be read, so there is nothing to search{first}")
        forget_journal(path)
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
        # Of another bundle or view, with other paths, or damaged: nothing that could be taken up.
        forget_journal(partial)
        partial.unlink()
    facts = {"fingerprint": fingerprint, "relative": str(int(relative)), "view": str(view)}
    make_tables(partial, facts)
