"""The bundles of a folder: what the station serves, each under its folder's name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...bundles.manifest import MANIFEST, KindName, Manifest
from ...errors import MedgeError, StationError
from .admission import Admission


class NoModelError(StationError):
    """The station has no such bundle. HTTP 404."""


@dataclass(frozen=True)
class Entry:
    """What is known of a bundle before it is loaded.

    Attributes:
        id: its folder's name, by which requests ask for it.
        kind: "encoder" or "generator".
        folder: where it lies.
        created: when its manifest was written, in seconds since 1970.
        parity: the verdict of its measurement: "passed", "passed with a warning", "failed" or "not measured".
        recipes: {tower: recipe}.
        profile: how an image is resized for it.
        image_size: pixels of an image's side; 0 where the model reads text only.
        maps: whether an encoder can say where it sees a label.
    """

    id: str
    kind: KindName
    folder: Path
    created: int
    parity: str
    recipes: dict[str, str] = field(default_factory=dict)
    profile: str = ""
    image_size: int = 0
    maps: bool = False


@dataclass(frozen=True)
class Catalogue:
    """The bundles that can be served.

    Attributes:
        entries: {id: bundle}, by name.
        refused: {folder's name: why}, of bundles that were left out.
        encoder: the encoder that requests mean that name none; the only one where None.
    """

    entries: dict[str, Entry]
    refused: dict[str, str] = field(default_factory=dict)
    encoder: str | None = None

    @classmethod
    def read(
        cls, folder: Path, *, allow_failed_parity: bool = False, encoder: str | None = None, admission: Admission | None = None
    ) -> Catalogue:  # fmt: skip
        """Read the manifests of the bundles in a folder; no model is loaded.

        Args:
            folder: each of its folders that has a manifest is a bundle.
            allow_failed_parity: serve bundles whose parity gate failed or was never measured, too.
            encoder: the encoder that requests mean that name none.
            admission: whose bundles are let in; everybody's where None.

        Raises:
            StationError: there is no such folder, no bundle in it that can be served, or no such encoder.
        """
        if not folder.is_dir():
            raise StationError(f"{folder} is no folder; give the folder that holds the bundles' folders")
        entries: dict[str, Entry] = {}
        refused: dict[str, str] = {}
        for path in sorted(path.parent for path in folder.glob(f"*/{MANIFEST}")):
            try:
                (admission or Admission()).check(path)
                entries[path.name] = _entry(path, allow_failed_parity)
            except MedgeError as error:
                refused[path.name] = str(error)
        if not entries:
            why = "; ".join(refused.values()) or "none of its folders has a manifest"
            raise StationError(f"{folder} holds no bundle that can be served: {why}")
        found = cls(entries, refused, encoder)
        if encoder is not None:
            found.get(encoder, "encoder")
        return found

    def get(self, name: str | None, kind: KindName) -> Entry:
        """The bundle of this name and kind.

        Raises:
            NoModelError: there is none, or none is named and it is not clear which is meant.
        """
        of_kind = [entry for entry in self.entries.values() if entry.kind == kind]
        names = ", ".join(entry.id for entry in of_kind) or "none"
        if name is None:
            name = self.encoder if kind == "encoder" else None
        if name is None:
            if len(of_kind) == 1:
                return of_kind[0]
            raise NoModelError(f"name the {kind} in 'model'; this station has: {names}")
        entry = self.entries.get(name)
        if entry is None or entry.kind != kind:
            raise NoModelError(f"this station has no {kind} of that name; it has: {names}")
        return entry


def _entry(path: Path, allow_failed_parity: bool) -> Entry:
    manifest = Manifest.read(path)
    if manifest.status != "passed" and not allow_failed_parity:
        raise StationError(f"{path.name}: parity {manifest.status}; serve it all the same with --allow-failed-parity")
    if not manifest.towers:
        raise StationError(f"{path.name} holds CoreML packages only, which this machine can't run")
    if manifest.kind == "encoder":
        size, maps = manifest.encoder.image_size, bool(manifest.towers["vision"].map_output)
    else:
        size, maps = manifest.generator.image_size if manifest.generator.image_tokens else 0, False
    recipes = {tower: facts.recipe for tower, facts in manifest.towers.items()}
    created = int((path / MANIFEST).stat().st_mtime)
    profile = manifest.profile if size else ""
    return Entry(path.name, manifest.kind, path, created, manifest.verdict, recipes, profile, size, maps)
