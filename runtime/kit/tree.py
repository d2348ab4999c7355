"""A version's whole tree, laid out from a kit's pieces and from the version before; and looked at again.

The tree grows under a hidden name and gets its own when it is whole. Laying it out again after a kill, or after the stick was
pulled out, goes on with the files that lie there and are right. Files that the version before has, too, are hard links to them:
a bundle of three gigabytes lies on the disk once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..bundles.atomic import flush_folder
from ..bundles.claim import remove
from ..bundles.manifest import sha256_file
from ..errors import KitError, storage_errors
from ..progress import Progress, no_progress
from .layout import SIGNATURE, STATEMENT, Entry, Kit

_CHUNK = 1 << 20
_SPARE = 64 << 20  # bytes that the disk keeps
Check = Callable[[Path], object]


@dataclass(frozen=True)
class Laid:
    """What laying out a version took.

    Attributes:
        folder: of the version.
        copied: bytes that came from the stick.
        linked: bytes that lie there as the version before has them.
        kept: bytes that an interrupted run had laid out.
    """

    folder: Path
    copied: int
    linked: int
    kept: int


def partial_of(versions: Path, counter: int) -> Path:
    """Where a version grows."""
    return versions / f".{counter}.partial"


def lay_out(
    kit: Kit, versions: Path, base: Kit | None = None, progress: Progress = no_progress
) -> Laid:  # fmt: skip
    """Make a version's folder from a kit whose signature has been checked; one that is there is looked at, and stays.

    Args:
        kit: on the stick, opened with a copy of its statement whose signature was checked.
        versions: the installation's folder of versions; nobody else writes it meanwhile.
        base: an installed version, for the files that it has, too.
        progress: told of bytes.

    Raises:
        KitError: a piece is missing, or its content is not what the statement says; the disk lacks space.
        StorageError: the file system refused.
    """
    final, partial = versions / str(kit.counter), partial_of(versions, kit.counter)
    if final.exists():
        there = Kit.open(final)
        problems = list(differences(there))
        if problems or there.statement.identity != kit.statement.identity:
            raise KitError(
                f"{final} is not what the kit says: {(problems or ['another statement'])[0]}; remove it first"
            )
        return Laid(final, 0, 0, sum(kit.statement.contents().values()))
    with storage_errors(final):
        partial.mkdir(parents=True, exist_ok=True)
        _remove_others(partial, kit)
        hand = _Hand(kit, partial, base)
        _refuse_too_large(kit, hand, partial)
        total = sum(entry.size or 0 for entry in kit.entries)
        for entry in kit.entries:
            hand.place(entry)
            progress("bytes", hand.done, total)
        for name in (STATEMENT, SIGNATURE):
            (partial / name).write_bytes((kit.signed / name).read_bytes())
        os.sync()  # all at once: flushing 15,000 files one by one takes minutes
        partial.rename(final)
        flush_folder(versions)
    return Laid(final, hand.copied, hand.linked, hand.kept)


class _Hand:
    """Places entries."""

    def __init__(self, kit: Kit, partial: Path, base: Kit | None) -> None:
        self._kit, self._partial = kit, partial
        self.base: dict[str, Path] = {}
        for entry in base.entries if base else ():
            if base and entry.sha256 is not None:
                self.base.setdefault(entry.sha256, base.folder / entry.path)
        self.copied = self.linked = self.kept = self.done = 0

    def place(self, entry: Entry) -> None:
        final = self._partial / entry.path
        final.parent.mkdir(parents=True, exist_ok=True)
        self.done += entry.size or 0
        if entry.link is not None:
            if not (final.is_symlink() and os.readlink(final) == entry.link):
                remove(final)
                final.symlink_to(entry.link)
            return
        assert entry.sha256 is not None
        assert entry.size is not None
        assert entry.mode is not None
        if _is(final, entry):
            self.kept += entry.size
            return
        remove(final)
        if self._from_base(entry, final):
            self.linked += entry.size
            return
        _copy(self._kit.piece(entry.sha256), final, entry)
        self.copied += entry.size

    def _from_base(self, entry: Entry, final: Path) -> bool:
        """Take a file from the version before; whether it is there and right."""
        assert entry.sha256 is not None
        source = self.base.get(entry.sha256)
        if source is None or not _is(source, entry, mode=False):
            return False
        if stat.S_IMODE(source.stat().st_mode) == entry.mode:
            with contextlib.suppress(OSError):  # a file system without hard links
                os.link(source, final)
                return True
        _copy(source, final, entry)
        return True


def _is(path: Path, entry: Entry, *, mode: bool = True) -> bool:
    """Whether a file is an entry's: of its size, mode and content."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
            return False
        if mode and stat.S_IMODE(found.st_mode) != entry.mode:
            return False
        return sha256_file(path) == entry.sha256
    except OSError:
        return False


@contextlib.contextmanager
def _of_stick(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KitError(
            f"{path} can't be read ({error.strerror}); is the stick in its place? The same command goes on where it stopped"
        ) from error


def _copy(source: Path, final: Path, entry: Entry) -> None:
    """Copy a content, no more of it than its entry says."""
    assert entry.mode is not None
    with _of_stick(source):
        if not stat.S_ISREG(source.lstat().st_mode):
            raise KitError(f"{source} is no regular file; copy the kit again")
        stream: BinaryIO = source.open("rb")
    hasher, left = hashlib.sha256(), (entry.size or 0) + 1
    with stream, final.open("xb") as target:
        while left > 0:
            with _of_stick(source):
                chunk = stream.read(min(_CHUNK, left))
            if not chunk:
                break
            left -= len(chunk)
            hasher.update(chunk)
            target.write(chunk)
    if left != 1 or hasher.hexdigest() != entry.sha256:
        final.unlink()
        raise KitError(
            f"{source} is not what the kit's statement says of {entry.path}: the stick is damaged or was changed; "
            "copy the kit again"
        )
    final.chmod(entry.mode)


def _refuse_too_large(kit: Kit, hand: _Hand, partial: Path) -> None:
    there = sum(path.lstat().st_size for path in partial.rglob("*") if not path.is_dir())
    needed = sum(size for sha256, size in kit.statement.contents().items() if sha256 not in hand.base) - there + _SPARE
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise KitError(
            f"the version takes {needed / 1e9:.2f} GB more, and {partial.parent} has {free / 1e9:.2f} GB free; make space there"
        )


def _remove_others(partial: Path, kit: Kit) -> None:
    """Remove what no entry has put there: an interrupted run may have been of another kit with the same counter."""
    wanted = {entry.path for entry in kit.entries}
    folders = {str(parent) for path in wanted for parent in Path(path).parents}
    for where, names, files in os.walk(partial):
        for name in [*names, *files]:
            path = Path(where, name)
            inside = path.relative_to(partial).as_posix()
            is_folder = path.is_dir() and not path.is_symlink()
            if inside not in (folders if is_folder else wanted):
                remove(path)
        names[:] = [name for name in names if Path(where, name).is_dir()]


def differences(version: Kit) -> Iterator[str]:
    """What of an installed version is not as its statement says: a sentence for each file."""
    wanted = {entry.path: entry for entry in version.entries}
    for path, entry in wanted.items():
        place = version.folder / path
        if entry.link is not None:
            if not place.is_symlink() or os.readlink(place) != entry.link:
                yield f"{path} is no link to {entry.link}"
        elif not place.is_symlink() and not place.exists():
            yield f"{path} is missing"
        elif not _is(place, entry):
            yield f"{path} was changed"
    for where, names, files in os.walk(version.folder):
        for name in [*names, *files]:
            place = Path(where, name)
            inside = place.relative_to(version.folder).as_posix()
            own = (
                inside in wanted or inside in (STATEMENT, SIGNATURE) or "/__pycache__/" in inside
            )  # Python makes these
            if (place.is_symlink() or not place.is_dir()) and not own:
                yield f"{inside} is nothing of the version"
