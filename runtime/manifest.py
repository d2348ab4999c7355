"""The manifest of a bundle: plain data, written as `manifest.json`.

The format is versioned by `FORMAT_VERSION`. A reader accepts its own version and older ones. `digest` is the SHA-256
of the rest of the manifest, so that a byte changed in the manifest itself is noticed as well.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import BundleError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

LICENCE_NOTICE = (
    "MedSigLIP and MedGemma weights, and files derived from them, are governed by the Health AI Developer Foundations "
    "Terms of Use; Gemma weights by the Gemma Terms of Use. Whoever passes this bundle on must pass those terms on. "
    "Not a medical device: outputs need verification by a qualified person before any clinical use."
)


@dataclass(frozen=True)
class FileEntry:
    """One file: its path inside the bundle, what it is for, its size in bytes and its SHA-256."""

    path: str
    role: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ModelFacts:
    """What the runtime must know of the model without opening a file."""

    architecture: str
    embedding_size: int
    image_size: int
    patch_size: int
    text_length: int
    vocabulary: int
    logit_scale: float  # already exponentiated: logit = scale * cosine + bias
    logit_bias: float
    parameters: int


@dataclass(frozen=True)
class TowerFacts:
    """How one tower was made: recipe, ONNX opset, whether a batch gives what single inputs give, and decisions taken."""

    recipe: str
    file: str
    opset: int
    batch_invariant: bool
    decisions: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """Everything that stands in `manifest.json`."""

    name: str
    model: ModelFacts
    profile: str
    target: str
    source: dict[str, Any]
    towers: dict[str, TowerFacts]
    files: tuple[FileEntry, ...] = ()
    labels: tuple[str, ...] = ()
    parity: dict[str, Any] | None = None
    licence: str = LICENCE_NOTICE
    medge_version: str = ""
    format_version: int = FORMAT_VERSION

    def file(self, role: str) -> FileEntry | None:
        """The file that plays `role`, or None."""
        return next((entry for entry in self.files if entry.role == role), None)

    def to_json(self) -> str:
        body = dataclasses.asdict(self)
        return json.dumps({**body, "digest": _digest(body)}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check `folder/manifest.json`.

        Raises:
            BundleError: missing, damaged, changed, or of a newer format.
        """
        path = folder / MANIFEST
        if not path.is_file():
            what = "is not a folder" if not folder.is_dir() else f"has no {MANIFEST}, so it is no complete bundle"
            raise BundleError(f"{folder} {what}; make one with 'medge export'")
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            version = int(body["format_version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path} is damaged ({error}); copy the bundle again") from error
        if version > FORMAT_VERSION:
            raise BundleError(
                f"{folder} has bundle format {version}, this medge reads up to {FORMAT_VERSION}: update medge"
            )
        digest = body.pop("digest", None)
        if digest != _digest(body):
            raise BundleError(f"{path} was changed after it was written; copy or export the bundle again")
        try:
            body["model"] = ModelFacts(**body["model"])
            body["towers"] = {name: TowerFacts(**facts) for name, facts in body["towers"].items()}
            body["files"] = tuple(FileEntry(**entry) for entry in body["files"])
            body["labels"] = tuple(body["labels"])
            return cls(**body)
        except (TypeError, KeyError) as error:
            raise BundleError(f"{path} lacks or misnames a field ({error}); export the bundle again") from error


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
