"""Golden answers inside a generator's bundle: any device can replay them and see that it computes the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ..bundles.metrics import cosine
from ..errors import BundleError
from ..generator.conversation import user
from ..generator.engine import Item, Picture, length
from ..generator.generator import Generator
from .phantom import phantom

QUESTION = "What does this image show?"
KEPT = 256  # of the likeliest next tokens, their logits are compared
# Kernels sum in another order on another CPU, and quantize activations at other places.
LEAST_COSINE = 0.999
# Where patches are merged, a rounding can send one elsewhere, and the tokens that it was part of change: their mean is
# judged. Kernels that compute wrongly (S8 weights on AVX2) come to 0.91.
MERGED_COSINE = 0.99


def _prompt(generator: Generator) -> list[Item]:
    parts = (phantom(), QUESTION) if generator.facts.image_tokens else (QUESTION,)
    return generator.encode([user(*parts)])


def _flat(items: list[Item]) -> NDArray[np.int64]:
    return np.array([-1 if isinstance(item, Picture) else item for item in items], np.int64)


def write_golden_answers(generator: Generator, path: Path) -> None:
    """Compute what this machine gives and store it with the prompt."""
    items = _prompt(generator)
    generator.engine.prefill(items)
    logits = generator.engine.next_logits()
    likeliest = np.argsort(-logits)[:KEPT]
    tensors: dict[str, NDArray[np.generic]] = {
        "prompt": _flat(items), "tokens": likeliest.astype(np.int64), "logits": logits[likeliest],
    }  # fmt: skip
    for item in items:
        if isinstance(item, Picture):
            tensors |= {"pixels": item.pixels, "image_embedding": generator.engine.image_embedding(item)}
    save_file(tensors, path)


def replay_answers(generator: Generator) -> Iterator[tuple[str, float, float, bool]]:
    """Yield (what, measured, bound, holds) for each thing that this device must reproduce."""
    path = generator.bundle.path("golden")
    if path is None:
        raise BundleError(f"{generator.bundle.folder} holds no golden answers")
    golden = load_file(path)
    tower = generator.manifest.towers.get("projector")
    merged = tower is not None and tower.merged > 0
    bound = MERGED_COSINE if merged else LEAST_COSINE
    items = _prompt(generator)
    same = _flat(items).tolist() == golden["prompt"].tolist()
    yield f"prompt of {length(items)} tokens differs", float(not same), 0, same
    for item in items:
        if isinstance(item, Picture):
            error = int(np.abs(item.pixels.astype(int) - golden["pixels"]).max())
            yield "preprocessing: greatest error in grey levels", error, 1, error <= 1
            found = cosine(golden["image_embedding"], generator.engine.image_embedding(item))
            if merged:
                yield _least("image embedding: mean cosine", float(found.mean()), bound)
            else:
                yield _least("image embedding: least cosine", float(found.min()), bound)
    generator.engine.prefill(items)
    logits = generator.engine.next_logits()[golden["tokens"]]
    centred = golden["logits"] - golden["logits"].mean(), logits - logits.mean()
    yield _least("likeliest answers: centred cosine of their logits", float(cosine(*centred)), bound)


def _least(what: str, value: float, bound: float) -> tuple[str, float, float, bool]:
    return what, value, bound, value >= bound
