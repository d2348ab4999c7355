"""Golden answers inside a generator's bundle: any device can replay them and see that it computes the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ..bundles.metrics import cosine
from ..bundles.tensors import Declared, read_tensors
from ..errors import BundleError
from ..generator.conversation import user
from ..generator.generator import Generator
from ..generator.prompt import Item, Picture, length
from .judge import judge_cosines
from .phantom import phantom

QUESTION = "What does this image show?"
KEPT = 256  # of the likeliest next tokens, their logits are compared


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


def _read(path: Path, generator: Generator) -> dict[str, NDArray[Any]]:
    """The tensors of golden answers.

    Raises:
        BundleError: they are not what `write_golden_answers` wrote for this model.
    """
    facts = generator.facts
    declared = {
        "prompt": Declared("I64", (None,)), "tokens": Declared("I64", ("kept",)), "logits": Declared("F32", ("kept",)),
    }  # fmt: skip
    if facts.image_tokens:
        declared |= {
            "pixels": Declared("U8", (facts.image_size, facts.image_size, 3)),
            "image_embedding": Declared("F32", (facts.image_tokens, facts.width)),
        }
    try:
        golden = read_tensors(path, declared)[0]
        tokens = golden["tokens"]
        if not ((tokens >= 0) & (tokens < facts.vocabulary)).all():
            raise ValueError(f"'tokens' are not all tokens of {facts.vocabulary}")
    except ValueError as error:
        raise BundleError(f"{path} holds no golden answers of this model ({error}); export the bundle again") from error
    return golden


def replay_answers(generator: Generator) -> Iterator[tuple[str, float, float, bool]]:
    """Yield (what, measured, bound, holds) for each thing that this device must reproduce."""
    path = generator.bundle.path("golden")
    if path is None:
        raise BundleError(f"{generator.bundle.folder} holds no golden answers")
    golden = _read(path, generator)
    towers = generator.manifest.towers
    items = _prompt(generator)
    same = _flat(items).tolist() == golden["prompt"].tolist()
    yield f"prompt of {length(items)} tokens differs", float(not same), 0, same
    for item in items:
        if isinstance(item, Picture):
            error = int(np.abs(item.pixels.astype(int) - golden["pixels"]).max())
            yield "preprocessing: greatest error in grey levels", error, 1, error <= 1
            found = cosine(golden["image_embedding"], generator.engine.image_embedding(item))
            yield judge_cosines("image embedding", found, towers["projector"].golden)
    generator.engine.prefill(items)
    logits = generator.engine.next_logits()[golden["tokens"]]
    centred = golden["logits"] - golden["logits"].mean(), logits - logits.mean()
    # Where an image came first, what its tower may differ by reaches the answer, too.
    bound = min((tower.golden for tower in towers.values()), key=lambda bound: bound.cosine)
    yield judge_cosines("centred logits of the likeliest answers", np.array([cosine(*centred)]), bound)
