"""Golden inputs and embeddings inside a bundle: any device can replay them and see that it computes the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ..bundles.facts import GoldenBound, file_role
from ..bundles.metrics import cosine
from ..bundles.tensors import Declared, read_tensors
from ..errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from ..encoder.encoder import Encoder
from .judge import judge_cosines
from .phantom import phantom

TEXTS = ("chest x-ray", "a CT scan of the head", "no abnormality")


def write_golden(encoder: Encoder, path: Path) -> None:
    """Compute what this machine gives and store it with the inputs."""
    source = phantom()
    pixels = encoder.resize(source)
    inputs = np.stack([pixels, np.ascontiguousarray(pixels[::-1]), np.ascontiguousarray(255 - pixels)])
    tensors: dict[str, NDArray[np.generic]] = {
        "source": source,
        "pixels": inputs,
        "image_embeddings": encoder.embed_pixels(np.stack([encoder.normalise(item) for item in inputs])),
    }
    if "text" in encoder.towers:
        ids = encoder.tokenizer.encode(TEXTS)[0]
        tensors |= {"ids": ids, "text_embeddings": encoder.embed_ids(ids)}
    save_file(tensors, path)


def replay(encoder: Encoder) -> Iterator[tuple[str, float, float, bool]]:
    """Yield (what, measured, bound, holds) for each thing that this device must reproduce."""
    path = encoder.bundle.path(file_role(encoder.format, "golden"))
    if path is None:
        raise BundleError(f"{encoder.bundle.folder} holds no golden embeddings")
    towers, facts = encoder.towers, encoder.facts
    declared = {
        "source": Declared("U8", (None, None, 3)), "pixels": Declared("U8", ("images", facts.image_size, facts.image_size, 3)),
        "image_embeddings": Declared("F32", ("images", facts.embedding_size)),
    }  # fmt: skip
    if "text" in towers:
        declared |= {
            "ids": Declared("I64", (len(TEXTS), facts.tokenizer.length)),
            "text_embeddings": Declared("F32", (len(TEXTS), facts.embedding_size)),
        }
    try:
        golden = read_tensors(path, declared)[0]
        if "text" in towers and not ((golden["ids"] >= 0) & (golden["ids"] < facts.vocabulary)).all():
            raise ValueError(f"'ids' are not all tokens of {facts.vocabulary}")
    except ValueError as reason:
        raise BundleError(f"{path} holds no golden embeddings of this model ({reason}); export it again") from reason
    pixels = encoder.resize(golden["source"])
    error = int(np.abs(pixels.astype(int) - golden["pixels"][0]).max())
    yield "preprocessing: greatest error in grey levels", error, 1, error <= 1
    embeddings = encoder.embed_pixels(np.stack([encoder.normalise(item) for item in golden["pixels"]]))
    yield _judge("image embeddings", towers["vision"].golden, embeddings, golden["image_embeddings"])
    if "text" in towers:
        ids = encoder.tokenizer.encode(TEXTS)[0]
        unequal = int((ids != golden["ids"]).sum())
        yield "token ids that differ", unequal, 0, unequal == 0
        yield _judge(
            "text embeddings", towers["text"].golden, encoder.embed_ids(golden["ids"]), golden["text_embeddings"]
        )


def _judge(
    what: str, bound: GoldenBound, ours: NDArray[np.float32], golden: NDArray[np.float32]
) -> tuple[str, float, float, bool]:
    return judge_cosines(what, cosine(golden, ours), bound)
