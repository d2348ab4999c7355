"""An encoder whose towers are a bundle's LiteRT files."""

from __future__ import annotations

from pathlib import Path

from ..bundles.bundle import Bundle
from ..device.litert.outline import FLOAT32, INT32, Called
from ..device.litert.session import LiteRTSession
from ..device.onnx_session import Session
from ..errors import RecipeError
from .encoder import Encoder


class LiteRTEncoder(Encoder):
    """Zero-shot classification and embeddings from a bundle's LiteRT files; `load_encoder` opens one.

    The arguments are those of `Encoder`; there is nothing to be had by `fast` and `sleeping`.

    Raises:
        RecipeError: fewer than one thread, or another device than a CPU.
    """

    format = "litert"
    absent = "holds no LiteRT files; export it with --format litert"

    def __init__(
        self, bundle: Bundle, *, threads: int | None = None, device: str = "auto", fast: bool = False, sleeping: bool = False
    ) -> None:  # fmt: skip
        if device not in ("auto", "cpu"):
            raise RecipeError(f"device {device!r} is not available: LiteRT files run on the CPU here")
        super().__init__(bundle, threads=threads, device="cpu", fast=fast, sleeping=sleeping)

    def _open_file(self, tower: str, path: Path) -> Session:
        return LiteRTSession(path, called=self._called(tower), threads=self._threads)

    def _called(self, tower: str) -> Called:
        """How a tower's model is called, as the manifest says it."""
        facts, side = self.towers[tower], self.facts.image_size
        images, ids = (FLOAT32, (1, 3, side, side)), (INT32, (1, self.facts.tokenizer.length))
        taken = images if tower == "vision" else ids
        return Called(dict.fromkeys(facts.inputs, taken), {facts.output: (FLOAT32, (1, self.facts.embedding_size))})
