"""The files of a component, as they will lie on the device: sorted, with one of two modes, without what Python makes."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import KitError
from ..layout import FILE_MODE, PROGRAM_MODE, Entry, Mode, check_entries
from ..writing import Content

_MADE = re.compile(
    r"(^|/)(__pycache__(/|$)|\.DS_Store$|\.git(/|$))|\.py[co]$"
)  # of no use on the device, or another each time


@dataclass(frozen=True)
class Source:
    """A file of a version and where its content comes from, or a link."""

    path: str
    component: str
    content: Content = b""
    program: bool = False
    link: str | None = None

    @property
    def mode(self) -> Mode:
        """Of the file on the device."""
        return PROGRAM_MODE if self.program else FILE_MODE


def sources_of(
    folder: Path, prefix: str, component: str, *, skip: Callable[[str], bool] = lambda path: False
) -> Iterator[Source]:  # fmt: skip
    """Every file and link of a folder, its folders in the order of their names.

    Args:
        folder: where they lie.
        prefix: their folder on the device; "" for the version's own.
        component: the component that they are of.
        skip: says of a path within the folder that it is left out.

    Raises:
        KitError: the folder is none, or holds a device, a pipe or a link that leads out of it.
    """
    if not folder.is_dir():
        raise KitError(f"{folder} is no folder, so nothing of it can be put into the kit")
    for where, folders, files in os.walk(folder):
        base = Path(where)
        for name in sorted((*folders, *files)):
            path = base / name
            inside = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if _MADE.search(inside) or skip(inside):
                if name in folders:
                    folders.remove(name)
                continue
            place = f"{prefix}/{inside}" if prefix else inside
            if stat.S_ISLNK(mode):
                yield Source(place, component, link=os.readlink(path))
            elif stat.S_ISREG(mode):
                yield Source(place, component, path, bool(mode & 0o100))
            elif not stat.S_ISDIR(mode):
                raise KitError(f"{path} is a device, a pipe or a socket, and can't be put into a kit; remove it")
        folders.sort()


def entries_of(
    sources: Iterable[Source], tell: Callable[[int], None]
) -> tuple[tuple[Entry, ...], dict[str, Content]]:  # fmt: skip
    """What `kit.json` says of the files, and {SHA-256: content}; every byte is read.

    Args:
        sources: the files.
        tell: told of the bytes of each.

    Raises:
        KitError: a path or a link that no version may hold.
    """
    entries, pieces = list[Entry](), dict[str, Content]()
    for source in sources:
        if source.link is not None:
            entries.append(Entry(source.path, source.component, link=source.link))
            continue
        sha256, size = _hashed(source.content)
        entries.append(Entry(source.path, source.component, sha256, size, source.mode))
        pieces.setdefault(sha256, source.content)
        tell(size)
    entries.sort(key=lambda one: one.path)
    check_entries(entries)
    return tuple(entries), pieces


def _hashed(content: Content) -> tuple[str, int]:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest(), len(content)
    with content.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return sha256, stream.tell()


def write_tar(target: Path, sources: Iterable[Source], moment: int) -> None:
    """Write files into an archive: the same files always give the same bytes.

    Args:
        target: the archive.
        sources: the files.
        moment: the time of all of them, seconds since 1970.
    """
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for source in sorted(sources, key=lambda one: one.path):
            about = tarfile.TarInfo(source.path)
            about.mtime, about.mode = moment, source.mode
            if source.link is not None:
                about.type, about.linkname = tarfile.SYMTYPE, source.link
                archive.addfile(about)
            elif isinstance(source.content, bytes):
                about.size = len(source.content)
                archive.addfile(about, io.BytesIO(source.content))
            else:
                about.size = source.content.stat().st_size
                with source.content.open("rb") as stream:
                    archive.addfile(about, stream)
