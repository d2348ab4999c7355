"""Writing a kit's folder: its pieces first, `kit.json` last, so that one that was interrupted is never taken for a whole one.

The same command goes on where it was stopped: a piece that lies there and is right is kept. A stick's file system (FAT) has no
links and no modes, and flushing each of 15,000 small files by itself would take minutes: all are flushed together, before
`kit.json` gets its name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from ..bundles.atomic import refuse_special, replace_bytes
from ..bundles.claim import claimed
from ..bundles.manifest import sha256_file
from ..errors import KitError, storage_errors
from ..progress import Progress, no_progress
from .layout import PIECES, SIGNATURE, STATEMENT, Kit, Statement, piece_path

Content = Path | bytes  # a file's, or the bytes themselves
SUMS = "SHA256SUMS"
_CHUNK = 1 << 20


def write_kit(
    out: Path,
    statement: Statement,
    pieces: Mapping[str, Content],
    beside: Mapping[str, Content],
    sign: Callable[[Path], bytes],
    *,
    force: bool = False,
    progress: Progress = no_progress,
) -> Kit:
    """Write a kit into a folder, which may be a stick's.

    Args:
        out: the folder.
        statement: what the kit is; its `beside` is filled in here.
        pieces: {SHA-256: content} of all the contents that shall lie on the stick.
        beside: {path: content} of what lies in the folder as it is.
        sign: gives the signature of the file at a path.
        force: replace a whole kit that lies there.

    Raises:
        KitError: a content is not what its hash says; a kit lies there and `force` is not set; the folder holds other things.
        StorageError: the file system refused.
    """
    total, done = sum(_length(content) for content in pieces.values()), 0
    with claimed(out), storage_errors(out):
        _make_room(out, force=force)
        for sha256, content in sorted(pieces.items()):
            _put(out / piece_path(sha256), sha256, content)
            done += _length(content)
            progress("bytes written", done, total)
        _remove_other_pieces(out, set(pieces))
        hashes = {name: _place(out / name, content) for name, content in sorted(beside.items())}
        statement = dataclasses.replace(statement, beside=hashes)
        body = statement.to_json()
        Statement.parse(body, out / STATEMENT)
        waiting = out / f".{STATEMENT}.unsigned" / STATEMENT
        signature = _signature(waiting, body, sign)
        sums = {**hashes, STATEMENT: hashlib.sha256(body).hexdigest(), SIGNATURE: hashlib.sha256(signature).hexdigest()}
        replace_bytes(out / SUMS, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())
        replace_bytes(out / SIGNATURE, signature)
        os.sync()
        replace_bytes(out / STATEMENT, body)
    return Kit(out, statement, out)


def _make_room(out: Path, *, force: bool) -> None:
    refuse_special(out)
    out.mkdir(parents=True, exist_ok=True)
    if (out / STATEMENT).exists():
        if not force:
            raise KitError(f"{out} holds a kit already; choose another folder, or replace it with --force")
        (out / STATEMENT).unlink()  # from here on it is no kit, until the new one is whole
    elif any(out.iterdir()) and not (out / PIECES).is_dir():
        raise KitError(
            f"{out} holds other things than a kit; give an empty folder, or the name of a new one on the stick"
        )
    (out / PIECES).mkdir(exist_ok=True)


def _signature(waiting: Path, body: bytes, sign: Callable[[Path], bytes]) -> bytes:
    """Sign a statement before it gets its name."""
    waiting.parent.mkdir(exist_ok=True)
    try:
        waiting.write_bytes(body)
        return sign(waiting)
    finally:
        shutil.rmtree(waiting.parent, ignore_errors=True)


def _put(place: Path, sha256: str, content: Content) -> None:
    """Write a piece, unless it lies there and is right."""
    there = place.is_file() and not place.is_symlink() and place.stat().st_size == _length(content)
    if there and sha256_file(place) == sha256:
        return
    if _place(place, content) != sha256:
        place.unlink()
        source = content if isinstance(content, Path) else place
        raise KitError(f"{source} was changed while the kit was made; make it again")


def _place(place: Path, content: Content) -> str:
    """Write a content under its name whole, unflushed, and give its SHA-256."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.partial")
    partial.unlink(missing_ok=True)
    hasher = hashlib.sha256()
    with partial.open("xb") as target:
        if isinstance(content, bytes):
            hasher.update(content)
            target.write(content)
        else:
            with content.open("rb") as source:
                while chunk := source.read(_CHUNK):
                    hasher.update(chunk)
                    target.write(chunk)
    partial.replace(place)
    return hasher.hexdigest()


def _remove_other_pieces(out: Path, wanted: set[str]) -> None:
    """Remove what an earlier kit, or an interrupted one, left."""
    for folder in (out / PIECES).iterdir():
        for place in folder.iterdir() if folder.is_dir() else ():
            if place.name not in wanted:
                place.unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _length(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
