"""An encoder's checkpoint, run by PyTorch in full precision in the place of a bundle: what `medge evaluate` takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ...runtime.bundles.claim import scratch_folder
from ...runtime.bundles.manifest import sha256_json
from ...runtime.encoder.embedder import Embedder
from ...runtime.encoder.tokenizer import Cut, Tokenizer
from ...runtime.errors import RecipeError
from ...runtime.pictures.preprocess import Normalisation
from ..families.encoder import EncoderReference, at_once


class CheckpointEncoder(Embedder):
    """A checkpoint's towers and tokenizer, behind what a bundle's encoder offers.

    Pictures are prepared by the same code as a bundle's; token ids are transformers' own.

    Args:
        reference: the model in full precision.
        profile: the preprocessing of images, one of the family's.
        threads: of PyTorch; its own choice where None.
        device: "auto", "cpu" or "cuda".

    Raises:
        RecipeError: the device isn't there.
    """

    def __init__(
        self, reference: EncoderReference, profile: str, *, threads: int | None = None, device: str = "auto"
    ) -> None:  # fmt: skip
        self._device = full_precision_on(device, threads)
        if self._device == "cuda":
            reference.model.to(self._device)
        self.reference, self.facts, self._profile = reference, reference.facts, profile
        with scratch_folder() as place:
            file = place / "tokenizer.json"
            file.write_text(reference.device_tokenizer, encoding="utf-8")
            self._tokenizer = Tokenizer(file, self.facts.tokenizer, self.facts.vocabulary)

    @property
    def profile(self) -> str:
        return self._profile

    @property
    def normalisation(self) -> Normalisation:
        return self.reference.normalisation

    @property
    def fingerprint(self) -> str:
        return f"{sha256_json(self.reference.checkpoint.hashes)}/{self.profile}"

    def embed_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._embed("vision", pixels, at_once(self.facts))

    def embed_texts(self, texts: str | Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        given = [texts] if isinstance(texts, str) else texts
        ids = self.reference.text_ids(given) if given else np.empty((0, self.facts.tokenizer.length), np.int64)
        return self._embed("text", ids, batch_size)

    @torch.inference_mode()
    def _embed(
        self, tower: str, inputs: NDArray[np.float32] | NDArray[np.int64], step: int
    ) -> NDArray[np.float32]:  # fmt: skip
        parts = [np.empty((0, self.facts.embedding_size), np.float32)]
        for start in range(0, len(inputs), step):
            batch = torch.from_numpy(inputs[start : start + step]).to(self._device)
            parts.append(F.normalize(self.reference.features(tower, batch), dim=-1).cpu().numpy())
        return np.concatenate(parts)

    def cuts(self, texts: Sequence[str]) -> list[Cut]:
        return self._tokenizer.encode(texts)[1]


def pick_device(wanted: str) -> str:
    """The device that is wanted: "cpu" or "cuda".

    Raises:
        RecipeError: it is neither of these nor "auto", or it isn't there.
    """
    there = torch.cuda.is_available()
    if wanted not in ("auto", "cpu", "cuda") or (wanted == "cuda" and not there):
        raise RecipeError(f"device {wanted!r}: PyTorch has {'cpu and cuda' if there else 'only cpu'} here")
    return "cuda" if there and wanted != "cpu" else "cpu"


def full_precision_on(wanted: str, threads: int | None) -> str:
    """The device that is wanted, PyTorch being set to compute there in full precision, by so many threads on a CPU.

    Raises:
        RecipeError: as `pick_device`.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = pick_device(wanted)
    if device == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # convolutions would keep 10 bits of mantissa
    return device
