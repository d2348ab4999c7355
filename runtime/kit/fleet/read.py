"""Read collected files: whatever anyone has sealed to the makers' key, so nothing in them is taken at its word but its form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import KitError
from ..collected.report import Collected
from ..collected.sealed import SUFFIX, unseal

if TYPE_CHECKING:
    from pyrage import x25519


@dataclass(frozen=True)
class Read:
    """What was read.

    Attributes:
        files: {device: what it has sent, the oldest first}.
        refused: a sentence for each file that could not be read.
    """

    files: dict[str, list[Collected]]
    refused: Sequence[str] = ()


def read_all(folder: Path, key: x25519.Identity) -> Read:
    """Open every collected file of a folder, and below it.

    Raises:
        KitError: there is none.
    """
    paths = sorted(path for path in folder.rglob(f"*{SUFFIX}") if path.is_file()) if folder.is_dir() else []
    if not paths:
        raise KitError(f"{folder} holds no collected file (*{SUFFIX})")
    files: dict[str, list[Collected]] = {}
    refused = []
    for path in paths:
        try:
            found = unseal(path, key)
        except KitError as error:
            refused.append(str(error))
            continue
        files.setdefault(found.device.id, []).append(found)
    for each in files.values():
        each.sort(key=lambda one: (one.day, one.kit or 0))
    return Read(dict(sorted(files.items())), refused)
