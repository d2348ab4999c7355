"""What lies in a bundle's folder, listed or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..bundles.manifest import SIGNATURE
from ..errors import TrustError


def found_files(folder: Path) -> Iterator[str]:
    """The paths within a bundle of all files but its signature, with forward slashes.

    Raises:
        TrustError: something is a link, a device, a pipe or a socket; or a folder can't be read.
    """
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            entries = sorted(os.scandir(place), key=lambda one: one.name)
        except OSError as error:
            raise TrustError(f"{place} can't be read ({error.strerror})") from error
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif not entry.is_file(follow_symlinks=False):
                raise TrustError(
                    f"{path} is a link or no regular file, so it can't be signed for; copy the bundle without it"
                )
            elif (within := path.relative_to(folder).as_posix()) != SIGNATURE:
                yield within
