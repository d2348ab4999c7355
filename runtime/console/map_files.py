"""Maps as files: a PNG for each picture and label, in a folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..bundles.atomic import atomic_file
from ..errors import ImageError, StorageError
from ..pictures.images import ImageSource

if TYPE_CHECKING:
    from ..encoder.encoder import Encoder
    from ..encoder.labels import LabelBank
    from ..encoder.maps import PatchMap
    from ..pictures.view import View

LONGEST = 40  # characters of a picture's and of a label's name in a file's name


@dataclass(frozen=True)
class MappingEncoder:
    """Embeds pictures and maps them, in the place of an encoder that only embeds them.

    Raises:
        BundleError: the bundle was exported without --maps.
    """

    encoder: Encoder
    bank: LabelBank

    def __post_init__(self) -> None:
        self.encoder.check_maps()

    def stream_images(
        self, sources: Iterable[ImageSource], *, view: View
    ) -> Iterator[tuple[ImageSource, PatchMap | ImageError]]:
        """As `Encoder.stream_maps`."""
        return self.encoder.stream_maps(sources, self.bank, view=view)


@dataclass(frozen=True)
class MapFiles:
    """The folder that maps are written into.

    Attributes:
        folder: is made where it is absent.
        every: whether each label gets a file, or the best one only.
        made_with: names what was asked of which bundle; the same question gives the same file.

    Raises:
        StorageError: the folder is none.
    """

    folder: Path
    every: bool
    made_with: str

    def __post_init__(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise StorageError(f"{self.folder} is no folder; give one for the maps, or one that does not exist yet")

    def write(self, found: PatchMap, name: str) -> dict[str, str]:
        """Write a picture's maps.

        Args:
            found: its map.
            name: of the picture, not the same as another's.

        Returns:
            {label: file}.

        Raises:
            StorageError: the file system refused.
        """
        files = {
            label: self.folder / self._name(name, label) for label in (found.labels if self.every else (found.best,))
        }
        for label, path in files.items():
            with atomic_file(path) as partial:
                Image.fromarray(found.overlay(label)).save(partial, "PNG")
        return {label: str(path) for label, path in files.items()}

    def _name(self, name: str, label: str) -> str:
        """Letters, digits and hyphens that are read; what keeps two files apart is the hash."""
        told = "\n".join((self.made_with, name, label))
        digest = hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()[:12]
        return f"map.{_plain(Path(name).stem)}.{_plain(label)}.{digest}.png"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text)[:LONGEST].strip("-") or "x"
