"""What the full-precision model gave for images and texts, kept in a file: parity without the checkpoint.

The file holds embeddings and token ids under hashes of what they are of, so that it shows neither images nor texts, and
answers for no other image, text, preprocessing or model than it was made with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ... import __version__
from ...runtime.bundles.atomic import atomic_file
from ...runtime.bundles.facts import EncoderFacts
from ...runtime.bundles.manifest import Manifest
from ...runtime.bundles.origin import Origin, today
from ...runtime.bundles.tensors import Declared, read_tensors
from ...runtime.errors import CheckpointError
from .kept_outputs import KeptOutputs

NAME = "reference.safetensors"
DECLARED = {
    "keys": Declared("U8", ("inputs", 32)), "embeddings": Declared("F32", ("inputs", None)),
    "text_keys": Declared("U8", ("texts", 32)), "text_ids": Declared("I64", ("texts", None)),
}  # fmt: skip


class Reference(Protocol):
    """The full-precision model as far as its answers go."""

    @property
    def name(self) -> str:
        """Of the checkpoint's folder."""
        ...

    @property
    def facts(self) -> EncoderFacts:
        """What the manifest says of the model."""
        ...

    def made_today(self) -> Origin:
        """What a report says of the checkpoint."""
        ...

    def image_embeddings(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit-length embeddings, (N, D), of prepared images."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit-length embeddings, (N, D)."""
        ...

    def text_ids(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids, (N, length)."""
        ...


@dataclass
class Recorder:
    """A reference that keeps what it was asked, for later measurements and for this one, should it be stopped."""

    reference: Reference
    outputs: KeptOutputs = field(default_factory=KeptOutputs)
    embeddings: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    ids: dict[bytes, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.reference.name

    @property
    def facts(self) -> EncoderFacts:
        return self.reference.facts

    def made_today(self) -> Origin:
        return self.reference.made_today()

    def image_embeddings(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        keys = list(map(image_key, pixels))
        found = self.outputs.rows("reference", keys, lambda: self.reference.image_embeddings(pixels))
        self.embeddings |= zip(keys, found, strict=True)
        return found

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        keys = list(map(text_key, texts))
        found = self.outputs.rows("reference", keys, lambda: self.reference.embed_texts(texts))
        self.embeddings |= zip(keys, found, strict=True)
        return found

    def text_ids(self, texts: Sequence[str]) -> NDArray[np.int64]:
        found = self.reference.text_ids(texts)
        self.ids |= zip(map(text_key, texts), found, strict=True)
        return found

    def save(self, path: Path, material: str) -> None:
        """Write what was asked.

        Args:
            path: the file.
            material: what the images were, for people.

        Raises:
            StorageError: the file system refused.
        """
        made = self.made_today()
        facts = {"checkpoint": self.name, "sha256": json.dumps(made.source), "material": material, "date": made.date}
        ids = list(self.ids.values()) or [np.zeros(1, np.int64)]  # a bundle without a text tower
        tensors: dict[str, NDArray[Any]] = {
            "keys": _rows(self.embeddings), "embeddings": np.stack(list(self.embeddings.values())).astype(np.float32),
            "text_keys": _rows(self.ids) if self.ids else np.zeros((1, 32), np.uint8), "text_ids": np.stack(ids),
        }  # fmt: skip
        with atomic_file(path) as partial:
            save_file(tensors, partial, facts)


@dataclass(frozen=True)
class KeptReference:
    """What an earlier run has kept.

    Attributes:
        path: the file.
        name, sha256: of the checkpoint's folder, and {file: SHA-256} of its configuration and weights.
        material, date: what the images were, and the day on which they were embedded.
        facts: of the bundle that is measured, which was made from the same checkpoint.
        embeddings, ids: {hash of an image or a text: its embedding (D,), its token ids}.
    """

    path: Path
    name: str
    sha256: dict[str, str]
    material: str
    date: str
    facts: EncoderFacts
    embeddings: dict[bytes, NDArray[np.float32]]
    ids: dict[bytes, NDArray[np.int64]]

    @staticmethod
    def read(path: Path, manifest: Manifest) -> KeptReference:
        """Read a file for a bundle.

        Args:
            path: the file.
            manifest: of the bundle that is measured.

        Raises:
            CheckpointError: it is no such file, or of another checkpoint than the bundle was made from.
        """
        try:
            tensors, facts = read_tensors(path, DECLARED)
            sha256 = msgspec.json.decode(facts["sha256"], type=dict[str, str])
            name, material, date = facts["checkpoint"], facts["material"], facts["date"]
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f"{path} is neither a checkpoint folder nor a {NAME} of 'medge parity --out' ({error})"
            ) from error
        if sha256 != manifest.source.sha256:
            raise CheckpointError(
                f"{path} holds what {name} gave, and {manifest.name} was made from {manifest.source.name}: hashes differ"
            )
        keys, text_keys = ([row.tobytes() for row in tensors[part]] for part in ("keys", "text_keys"))
        return KeptReference(
            path, name, sha256, material, date, manifest.encoder, dict(zip(keys, tensors["embeddings"], strict=True)),
            dict(zip(text_keys, tensors["text_ids"], strict=True)),
        )  # fmt: skip

    def made_today(self) -> Origin:
        return Origin(today(), __version__, self.sha256)

    def image_embeddings(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([self._found(self.embeddings, image_key(row), "these images") for row in pixels])

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._found(self.embeddings, text_key(text), "these labels or texts") for text in texts])

    def text_ids(self, texts: Sequence[str]) -> NDArray[np.int64]:
        return np.stack([self._found(self.ids, text_key(text), "these labels or texts") for text in texts])

    def _found(self, known: dict[bytes, Any], key: bytes, what: str) -> NDArray[Any]:
        if key not in known:
            raise CheckpointError(
                f"{self.path} was made on {self.material}, on {self.date}, and does not know all of {what}: measure on the same "
                "ones, or give the checkpoint with --reference"
            )
        return np.asarray(known[key])


def image_key(pixels: NDArray[np.float32]) -> bytes:
    """Of an image as the model reads it, (3, side, side)."""
    return hashlib.sha256(b"image" + np.ascontiguousarray(pixels, "<f4").tobytes()).digest()


def text_key(text: str) -> bytes:
    """Of a text."""
    return hashlib.sha256(b"text" + text.encode()).digest()


def _rows(known: dict[bytes, Any]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(known), np.uint8).reshape(len(known), 32)
