"""Files and folders that appear under their final name whole, or not at all.

Each is written under a hidden temporary name beside its place, flushed to the disk, made readable to others as the umask
allows (some writers leave mode 0600), and renamed. An exception removes it; what a killed process left is removed by the
next writer of the same name on the same machine.
"""

from __future__ import annotations

import contextlib
import glob
import os
import platform
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import StorageError, storage_errors


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
        partial = _temporary(final)
        partial.touch()
        mode = partial.stat().st_mode
        try:
            yield partial
            partial.chmod(mode)
            replace_file(partial, final)
        finally:
            partial.unlink(missing_ok=True)


def replace_file(partial: Path, final: Path) -> None:
    """Flush a complete file to the disk and give it its final name; for work that resumes from a `partial` of its own."""
    _flush(partial)
    partial.replace(final)
    _flush_folder(final.parent)


def replace_text(final: Path, text: str) -> None:
    """Write a text file, UTF-8, in the place of what may be there.

    Raises:
        StorageError: the file system refused.
    """
    with atomic_file(final) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


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
    if not first_wins:
        refuse_existing(final, force=force)
    with storage_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = _temporary(final)
        partial.mkdir()
        try:
            yield partial
            _settle(partial)
            _move(partial, final, first_wins=first_wins)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def refuse_existing(final: Path, *, force: bool) -> None:
    """Refuse to write over a file or folder; for work that takes long before it comes to writing.

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
_OURS = ("manifest.json", "config.json", "distillation.json", "golden.json", "state.pt")


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


def _temporary(final: Path) -> Path:
    """A name that nothing has; first removes what processes of this machine that are gone have left for `final`."""
    prefix = (
        f".{final.name}.partial-{platform.node()}"  # a shared folder holds the files of other machines' processes, too
    )
    for stale in final.parent.glob(f"{glob.escape(prefix)}-*-*"):
        if not _alive(stale.name.rsplit("-", 2)[-2]):
            if stale.is_dir():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)
    return final.parent / f"{prefix}-{os.getpid()}-{secrets.token_hex(4)}"


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


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
        _flush_folder(folder)


def _move(partial: Path, final: Path, *, first_wins: bool) -> None:
    if final.exists():
        if first_wins:
            return
        aside = partial.with_name(partial.name.replace(".partial-", ".replaced-"))  # nobody removes it as stale
        final.rename(aside)
        partial.rename(final)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        try:
            partial.rename(final)
        except OSError:  # another process was faster
            if not (first_wins and final.exists()):
                raise
    _flush_folder(final.parent)


def _flush(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    """Names are on the disk only when their folder is; Windows flushes them by itself and can't open a folder."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
