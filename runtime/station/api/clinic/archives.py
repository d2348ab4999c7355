"""A zip of images, such as a CD's: its entries as streams, none of them ever written under its name.

What an archive says of itself is not believed: entries are read up to limits, its directory is too, and an archive within an
archive is no image.
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from io import RawIOBase
from typing import IO, BinaryIO

from ...store.arrivals import is_dicom, is_picture
from ..problems import RefusedError

MOST_ENTRIES = 50_000
MOST_BYTES = 16 << 30  # of all entries together, as they unpack
MOST_RATIO = 200  # of an entry's bytes to what they take in the archive, beyond `FREE_RATIO`
FREE_RATIO = 64 << 20  # bytes of an entry that may pack as well as they like
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others take memory that no limit of ours knows
_HEAD = 132  # bytes that tell what a file is
# What zipfile raises of a file that is damaged, encrypted, or packed in a way that it does not know.
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError)


def is_archive(head: bytes) -> bool:
    """Whether a file that begins like this is a zip."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


class Archive:
    """A zip that is being read.

    Args:
        stream: the file, which can be searched.

    Raises:
        RefusedError: it is damaged, encrypted, or unpacks to more than the limits.
    """

    def __init__(self, stream: RawIOBase) -> None:
        try:
            self._zip = zipfile.ZipFile(stream)
        except _DAMAGED as error:
            raise _damaged() from error
        entries = [one for one in self._zip.infolist() if not one.is_dir()]
        if len(entries) > MOST_ENTRIES:
            raise RefusedError(f"a zip has at most {MOST_ENTRIES} files; send it in parts")
        if sum(one.file_size for one in entries) > MOST_BYTES:
            raise RefusedError(f"the zip unpacks to more than {MOST_BYTES >> 30} GiB; send it in parts")
        if any(one.flag_bits & 1 for one in entries):
            raise RefusedError("the zip is encrypted; send the files themselves")
        for one in entries:
            if one.compress_type not in _METHODS:
                raise RefusedError("the zip is packed in a way that is not read here; use plain deflate")
            if one.file_size > FREE_RATIO + MOST_RATIO * one.compress_size:
                raise RefusedError(
                    "the zip unpacks to far more than it holds, as an attack does; send the files themselves"
                )
        found = [(one, self._kind(one)) for one in entries]
        # A CD's viewer has pictures of its own.
        wanted = "dicom" if any(kind == "dicom" for _, kind in found) else "picture"
        self.entries = [one for one, kind in found if kind == wanted]
        self.left_out = len(found) - len(self.entries)

    def _kind(self, entry: zipfile.ZipInfo) -> str:
        if entry.filename.rpartition("/")[2].upper() == "DICOMDIR":  # the CD's list of its files
            return ""
        with self.open(entry) as stream:
            try:
                head = stream.read(_HEAD)
            except _DAMAGED as error:
                raise _damaged() from error
        return "dicom" if is_dicom(head) else "picture" if is_picture(head) else ""

    @contextlib.contextmanager
    def open(self, entry: zipfile.ZipInfo) -> Iterator[BinaryIO]:
        """An entry, unpacked as it is read.

        Raises:
            RefusedError: it is damaged.
        """
        try:
            stream = self._zip.open(entry)
        except _DAMAGED as error:
            raise _damaged() from error
        with stream:
            yield _Unpacked(stream)  # type: ignore[misc]  # all of a `BinaryIO` that is used


class _Unpacked:
    """Says in a sentence what is wrong with an archive."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except _DAMAGED as error:
            raise _damaged() from error


def _damaged() -> RefusedError:
    return RefusedError("the zip is damaged", code="object_refused")
