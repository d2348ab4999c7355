"""How far two next-token distributions are from each other, position by position."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...runtime.bundles import metrics
from ...runtime.bundles.atomic import atomic_file
from ...runtime.bundles.figures import DivergenceFigures, KLDivergence, Places
from ...runtime.generator.engine import Engine, Item, Picture
from ...runtime.progress import Progress
from ..families.generator_reference import GeneratorReference
from ..source.corpus import SKIP

Array = NDArray[Any]


@dataclass
class Divergence:
    """Per-position figures of two next-token distributions; arrays of equal length."""

    kld: list[float]
    same: list[bool]
    reference_nll: list[float]
    bundle_nll: list[float]
    place: list[int]

    @classmethod
    def empty(cls) -> Divergence:
        return cls([], [], [], [], [])

    def add(self, reference: Array, bundle: Array, following: Sequence[int], skip: int) -> None:
        """Logits, (N, vocabulary) each, and the tokens that do follow."""
        for start in range(skip, len(following), 64):  # float64 of a quarter million logits is large
            rows = slice(start, min(start + 64, len(following)))
            p = torch.from_numpy(reference[rows]).double().log_softmax(-1)
            q = torch.from_numpy(bundle[rows]).double().log_softmax(-1)
            target = torch.tensor(following[rows])[:, None]
            self.kld += (p.exp() * (p - q)).sum(-1).clamp(min=0).tolist()
            self.same += (p.argmax(-1) == q.argmax(-1)).tolist()
            self.reference_nll += (-p.gather(1, target)[:, 0]).tolist()
            self.bundle_nll += (-q.gather(1, target)[:, 0]).tolist()
            self.place += range(rows.start, rows.stop)

    def figures(self) -> DivergenceFigures:
        kld, same = np.array(self.kld), np.array(self.same, float)
        low, high = metrics.bootstrap(lambda rows: float(kld[rows].mean()), len(kld))
        difference = np.mean(self.bundle_nll) - np.mean(self.reference_nll)
        return DivergenceFigures(
            kld=KLDivergence(float(kld.mean()), low, high, float(np.median(kld)), float(np.quantile(kld, 0.99))),
            same_top=float(same.mean()), perplexity_ratio=float(np.exp(difference)),
            perplexity=float(np.exp(np.mean(self.reference_nll))), tokens=len(kld),
        )  # fmt: skip

    def by_position(self) -> Places:
        """Share of equal first choices and mean KL divergence by place in the prompt, in eight bins."""
        place, same, kld = np.array(self.place), np.array(self.same, float), np.array(self.kld)
        edges = np.linspace(0, place.max() + 1, 9)
        which = np.digitize(place, edges) - 1
        bins = [index for index in range(8) if (which == index).any()]
        return Places(
            place=tuple(float(edges[i : i + 2].mean()) for i in bins),
            same_top=tuple(float(same[which == i].mean()) for i in bins),
            kld=tuple(float(kld[which == i].mean()) for i in bins),
        )


class CachedLogits:
    """The reference's logits by prompt, on disk: several bundles are measured against the same ones.

    Args:
        reference: the PyTorch model.
        folder: of this reference's logits, which later runs find again; where None, nothing is kept.
    """

    def __init__(self, reference: GeneratorReference, folder: Path | None) -> None:
        self.reference, self.folder = reference, folder

    def __call__(self, items: Sequence[Item], first: int = 0) -> Array:
        if self.folder is None:
            return self.reference.logits(items, first)
        prompt = repr(([item.key if isinstance(item, Picture) else item for item in items], first))
        path = self.folder / f"{hashlib.sha256(prompt.encode()).hexdigest()}.npy"
        if not path.is_file():
            with atomic_file(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, self.reference.logits(items, first))
        return np.load(path)


def diverge(
    engine: Engine, logits: Callable[[Sequence[Item]], Array], prompts: Sequence[Sequence[Item]],
    progress: Progress, what: str,
) -> Divergence:  # fmt: skip
    found = Divergence.empty()
    for number, items in enumerate(prompts):
        ids = [item for item in items if not isinstance(item, Picture)]
        # The token that follows a text token in the text; an image between two is no token to predict.
        skip = SKIP if len(ids) > SKIP * 2 else 0
        found.add(logits(items)[:-1], engine.logits(items)[:-1], ids[1:], skip)
        progress(what, number + 1, len(prompts))
    return found
