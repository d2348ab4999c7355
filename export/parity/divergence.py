"""How far two next-token distributions are from each other, position by position."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...runtime.bundles import metrics
from ...runtime.bundles.atomic import atomic_file
from ...runtime.bundles.figures import DivergenceFigures, Interval, KLDivergence, Places
from ...runtime.generator.engine import Engine, Item, Picture
from ...runtime.progress import Progress
from ..families.generator_reference import GeneratorReference
from ..source.corpus import SKIP

Array = NDArray[Any]


@dataclass
class Divergence:
    """Per-position figures of two next-token distributions; lists of equal length.

    Attributes:
        kld, same, reference_nll, bundle_nll, place: of a position.
        unit: the passage or the image that it belongs to: what is resampled for intervals.
    """

    kld: list[float]
    same: list[bool]
    reference_nll: list[float]
    bundle_nll: list[float]
    place: list[int]
    unit: list[int]

    @classmethod
    def empty(cls) -> Divergence:
        return cls([], [], [], [], [], [])

    def add(
        self, reference: Array, bundle: Array, following: Sequence[int], skip: int, units: Sequence[int]
    ) -> None:  # fmt: skip
        """Logits, (N, vocabulary) each, the tokens that do follow, and what these belong to."""
        self.unit += units[skip:]
        # Four rows at a time: float64 of a quarter million logits is large, and in arrays of more than 32 MB, which malloc
        # maps anew each time, the same work takes three times as long.
        for start in range(skip, len(following), 4):
            rows = slice(start, min(start + 4, len(following)))
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
        difference = np.mean(self.bundle_nll) - np.mean(self.reference_nll)
        intervals = {
            "kld.mean": self._interval(lambda rows: float(kld[rows].mean())),
            "kld.p99": self._interval(lambda rows: float(np.quantile(kld[rows], 0.99))),
            "same_top": self._interval(lambda rows: float(same[rows].mean())),
        }
        return DivergenceFigures(
            kld=KLDivergence(intervals["kld.mean"].value, float(np.median(kld)), intervals["kld.p99"].value),
            same_top=intervals["same_top"].value, perplexity_ratio=float(np.exp(difference)),
            perplexity=float(np.exp(np.mean(self.reference_nll))), tokens=len(kld), units=len(set(self.unit)),
            intervals=intervals,
        )  # fmt: skip

    def against(self, plain: Divergence) -> DivergenceFigures:
        """The figures, with the mean's ratio to that of another bundle on the same positions."""
        ours, theirs = np.array(self.kld), np.array(plain.kld)
        ratio = self._interval(lambda rows: float(ours[rows].mean() / theirs[rows].mean()))
        figures = self.figures()
        return replace(
            figures, kld=replace(figures.kld, ratio_to_plain=ratio.value),
            intervals={**figures.intervals, "kld.ratio_to_plain": ratio},
        )  # fmt: skip

    def _interval(self, statistic: Callable[[Array], float]) -> Interval:
        return Interval(statistic(np.arange(len(self.unit))), *metrics.grouped(statistic, np.array(self.unit)))

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
    progress: Progress, what: str, passages: Sequence[Sequence[int]] | None = None,
) -> Divergence:  # fmt: skip
    """Compare the distributions after every token of prompts.

    Args:
        engine, logits: the bundle and the reference.
        prompts: token ids, and images among them.
        progress, what: what is told of the work.
        passages: what each prompt's tokens but the first belong to; where None, each prompt stands for itself.
    """
    found = Divergence.empty()
    for number, items in enumerate(prompts):
        ids = [item for item in items if not isinstance(item, Picture)]
        # The token that follows a text token in the text; an image between two is no token to predict.
        skip = SKIP if len(ids) > SKIP * 2 else 0
        units = [number] * (len(ids) - 1) if passages is None else passages[number]
        found.add(logits(items)[:-1], engine.logits(items)[:-1], ids[1:], skip, units)
        progress(what, number + 1, len(prompts))
    return found
