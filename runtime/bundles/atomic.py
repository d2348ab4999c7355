"""Files and folders that appear under their final name whole, or not at all.

Each is written under a hidden temporary name beside its place, flushed to the disk, made readable to others as the umask
allows (some writers leave mode 0600), and renamed. An exception removes it; what a killed process left is removed by the
next writer of the same name. A folder has one writer at a time.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import StorageError, storage_errors
from .claim import claimed, remove, temporary_name


@contextlib.contextmanager
def atomic_file(final: Path) -> Iterator[Path]:
    """A path to write to; what was written replaces `final` when the block has ended without an error.

    Raises:
        StorageError: the file system refused.
    """
    final = final.absolute()
    refuse_special(final)
    with storage_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        with temporary_name(final, "partial") as partial:
            partial.touch()
            mode = partial.stat().st_mode
            yield partial
            partial.chmod(mode)
            replace_file(partial, final)


def replace_file(partial: Path, final: Path) -> None:
    """Flush a complete file to the disk and give it its final name; for work that resumes from a `partial` of its own."""
    _flush(partial)
    partial.replace(final)
    flush_folder(final.parent)


def replace_bytes(final: Path, content: bytes) -> None:
    """Write a file in the place of what may be there.

    Raises:
        StorageError: the file system refused.
    """
    with atomic_file(final) as partial:
        partial.write_bytes(content)


def replace_with_mode(final: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file whose rights the umask does not decide; a secret is never there with other rights, not for a moment.

    Raises:
        StorageError: the file system refused.
    """
    final = final.absolute()
    with storage_errors(final), temporary_name(final, "partial") as partial:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(content)
        replace_file(partial, final)


def replace_text(final: Path, text: str) -> None:
    """Write a text file, UTF-8, in the place of what may be there.

    Raises:
        StorageError: the file system refused.
    """
    replace_bytes(final, text.encode())


@contextlib.contextmanager
def atomic_folder(final: Path, *, force: bool = False, first_wins: bool = False) -> Iterator[Path]:
    """A new folder to write into; it appears under `final` when the block has ended without an error.

    Args:
        force: replace what is there.
        first_wins: where several processes make the same folder, the one that is there first stays.

    Raises:
        StorageError: `final` exists and neither is set, or the file system refused.
    """
    final = final.absolute()
    with contextlib.nullcontext() if first_wins else only_writer(final, force=force), storage_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        with temporary_name(final, "partial") as partial:
            partial.mkdir()
            yield partial
            _settle(partial)
            _move(partial, final, force=force, first_wins=first_wins)


@contextlib.contextmanager
def only_writer(final: Path, *, force: bool) -> Iterator[None]:
    """Be the only one who writes `final` while the block runs; for work that takes long before it comes to writing.

    Raises:
        StorageError: it exists and `force` is false, or another process is writing there.
    """
    with claimed(final):
        _restore(final)
        refuse_existing(final, force=force)
        yield


def refuse_existing(final: Path, *, force: bool) -> None:
    """Refuse to write over a file or folder; for checks that come before any work.

    Raises:
        StorageError: it exists and `force` is false; or it is nothing that medge has written.
    """
    refuse_special(final)
    if not final.exists():
        return
    if not force:
        raise StorageError(f"{final} exists; choose another place, or replace it with --force")
    if final.is_dir() and not any((final / name).exists() for name in _OURS) and any(final.iterdir()):
        raise StorageError(
            f"{final} is a folder that medge has not written, so it is not replaced; choose another place"
        )


# One of these lies in every folder that a command writes.
_OURS = (
    "manifest.json",
    "config.json",
    "distillation.json",
    "golden.json",
    "parity.json",
    "reference.safetensors",
    "state.pt",
)


def refuse_special(final: Path) -> None:
    """Refuse to write in the place of a device, a pipe or a link, whatever `--force` says.

    Raises:
        StorageError: it is no regular file and no folder.
    """
    try:
        mode = final.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise StorageError(f"{str(final)[:300]} can't be written ({error}); choose another place") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        what = "a link" if stat.S_ISLNK(mode) else "a device, a pipe or a socket"
        raise StorageError(f"{final} is {what}, so it is not written; choose another place")


def _settle(partial: Path) -> None:
    """Give everything in a folder the modes that the umask allows, and flush it to the disk."""
    allowed = partial.stat().st_mode & 0o777  # mkdir's, so all that the umask leaves
    for where, _, files in os.walk(partial):
        folder = Path(where)
        folder.chmod(allowed)
        for name in files:
            path = folder / name
            if path.is_symlink():
                continue
            runs = path.stat().st_mode & 0o100
            path.chmod(allowed if runs else allowed & 0o666)
            _flush(path)
        flush_folder(folder)


def _move(partial: Path, final: Path, *, force: bool, first_wins: bool) -> None:
    if force and final.exists():
        aside = _aside(final)
        final.rename(aside)
        partial.rename(final)
        flush_folder(final.parent)
        remove(aside)
        return
    try:
        if not (first_wins and final.exists()):
            partial.rename(final)  # the system refuses to put a folder in the place of another that is not empty
    except OSError:
        if not final.exists():
            raise
        if not first_wins:
            refuse_existing(final, force=False)
    flush_folder(final.parent)


def _aside(final: Path) -> Path:
    """Where a folder lies for the moment in which another takes its place."""
    return final.with_name(f".{final.name}.replaced")


def _restore(final: Path) -> None:
    """Put right what a process left that was killed in the middle of a replacement: the old folder is back, or gone."""
    aside = _aside(final)
    if aside.exists() and not final.exists():
        aside.rename(final)
    remove(aside)


def _flush(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Names are on the disk only when their folder is; Windows flushes them by itself and can't open a folder."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
