"""An encoder that needs no model: the embedding of an image is the sums of its red, green and blue bytes.

`tests/swift/stubs/CoreML` answers with the same sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from medge.export.to_coreml.swift_package import write_swift
from medge.runtime.bundles.bundle import BundleWriter
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.pictures.preprocess import PROFILES

SIDE = 56
PROFILE = "finetune-pil"


@dataclass
class Colours:
    """As much of an encoder as what writes a Swift package asks for."""

    manifest: Any = field(
        default_factory=lambda: SimpleNamespace(
            profile=PROFILE, encoder=SimpleNamespace(image_size=SIDE, logit_scale=10.0, logit_bias=-9.0)
        )
    )
    towers: Any = field(
        default_factory=lambda: {
            "vision": SimpleNamespace(inputs=["image"], output="embedding", golden=SimpleNamespace(cosine=0.99999))
        }
    )
    label_bank: Any = field(
        default_factory=lambda: SimpleNamespace(
            names=("red", "blue"), embeddings=np.array([[1, 0, 0], [0, 0.6, 0.8]], np.float32)
        )
    )

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return PROFILES[PROFILE].resize(image, SIDE)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return pixels.astype(np.float32)

    def embed_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        sums = pixels.sum(axis=(1, 2), dtype=np.float64)
        return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)

    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """An image, (H, W, 3), to its embedding, (3,)."""
        return self.embed_pixels(self.normalise(self.resize(image))[None])[0]

    def logits(self, embedding: NDArray[np.float32]) -> NDArray[np.float64]:
        """(2,), one for each label."""
        facts = self.manifest.encoder
        return facts.logit_scale * (self.label_bank.embeddings @ embedding).astype(np.float64) + facts.logit_bias


@dataclass
class _Folder:
    """Files as a bundle's writer places them."""

    root: Path

    def add(self, path: str, role: str) -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


def write_package(encoder: Colours, folder: Path) -> None:
    """The Swift package and the bank that an export of this encoder writes into a bundle's folder."""
    write_swift(cast("BundleWriter", _Folder(folder)), cast("Encoder", encoder))
