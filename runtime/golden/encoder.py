"""Golden inputs and embeddings inside a bundle: any device can replay them and see that it computes the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ..bundles.gates import GOLDEN_COSINE
from ..bundles.metrics import cosine
from ..errors import BundleError
from ..pictures.preprocess import get_profile, normalise_pixels

if TYPE_CHECKING:
    from pathlib import Path

    from ..encoder.encoder import Encoder
from .phantom import phantom

TEXTS = ("chest x-ray", "a CT scan of the head", "no abnormality")


def write_golden(encoder: Encoder, path: Path) -> None:
    """Compute what this machine gives and store it with the inputs."""
    source = phantom()
    side = encoder.manifest.encoder.image_size
    pixels = get_profile(encoder.manifest.profile).resize(source, side)
    inputs = np.stack([pixels, np.ascontiguousarray(pixels[::-1]), np.ascontiguousarray(255 - pixels)])
    tensors: dict[str, NDArray[np.generic]] = {
        "source": source,
        "pixels": inputs,
        "image_embeddings": encoder.embed_pixels(np.stack([normalise_pixels(item) for item in inputs])),
    }
    if "text" in encoder.manifest.towers:
        ids = encoder.tokenizer.encode(TEXTS)[0]
        tensors |= {"ids": ids, "text_embeddings": encoder.embed_ids(ids)}
    save_file(tensors, path)


def replay(encoder: Encoder) -> Iterator[tuple[str, float, float, bool]]:
    """Yield (what, measured, bound, holds) for each thing that this device must reproduce."""
    path = encoder.bundle.path("golden")
    if path is None:
        raise BundleError(f"{encoder.bundle.folder} holds no golden embeddings")
    golden = load_file(path)
    towers = encoder.manifest.towers
    pixels = get_profile(encoder.manifest.profile).resize(golden["source"], encoder.manifest.encoder.image_size)
    error = int(np.abs(pixels.astype(int) - golden["pixels"][0]).max())
    yield "preprocessing: greatest error in grey levels", error, 1, error <= 1
    embeddings = encoder.embed_pixels(np.stack([normalise_pixels(item) for item in golden["pixels"]]))
    yield _judge("image embeddings", towers["vision"].recipe, embeddings, golden["image_embeddings"])
    if "text" in towers:
        ids = encoder.tokenizer.encode(TEXTS)[0]
        unequal = int((ids != golden["ids"]).sum())
        yield "token ids that differ", unequal, 0, unequal == 0
        yield _judge(
            "text embeddings", towers["text"].recipe, encoder.embed_ids(golden["ids"]), golden["text_embeddings"]
        )


def _judge(
    what: str, recipe: str, ours: NDArray[np.float32], golden: NDArray[np.float32]
) -> tuple[str, float, float, bool]:
    least = float(cosine(golden, ours).min())
    return f"{what}: least cosine", least, GOLDEN_COSINE[recipe], least >= GOLDEN_COSINE[recipe]
