"""How far two next-token distributions are from each other, position by position."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles import metrics
from ...runtime.bundles.atomic import atomic_file
from ...runtime.bundles.figures import DivergenceFigures, Interval, KLDivergence, Places
from ...runtime.generator.prompt import Item, Picture
from ..families.generator_reference import GeneratorReference
from ..source.corpus import SKIP
from .kept_outputs import NOT_FOLLOWED, Course

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
        self.place += range(skip, len(following))
        for place in range(skip, len(following)):
            self._add_row(reference[place], bundle[place], following[place])

    def _add_row(self, p: Array, q: Array, token: int) -> None:
        """Two rows of logits, (vocabulary,) float32, and the token that does follow.

        Exponentials in float32, a third of float64's time for a quarter of a million of them, and sums in float64: the divergence
        differs by less than 1e-7 from one in float64 all through.
        """
        best, other = int(p.argmax()), int(q.argmax())
        after = float(p[token]) - float(p[best]), float(q[token]) - float(q[other])
        p, q = p - p[best], q - q[other]
        weights = np.exp(p)
        total, its = float(weights.sum(dtype=np.float64)), float(np.exp(q).sum(dtype=np.float64))
        np.subtract(p, q, out=p)
        np.multiply(weights, p, out=weights)
        shift = math.log(its) - math.log(total)
        self.kld.append(max(0.0, float(weights.sum(dtype=np.float64)) / total + shift))
        self.same.append(best == other)
        self.reference_nll.append(math.log(total) - after[0])
        self.bundle_nll.append(math.log(its) - after[1])

    def extend(self, other: Divergence) -> None:
        """Add the positions of another."""
        for name in (field.name for field in fields(self)):
            getattr(self, name).extend(getattr(other, name))

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
        folder: of this reference's logits, which later runs find again; where None, only those of the last prompt are kept.
    """

    def __init__(self, reference: GeneratorReference, folder: Path | None) -> None:
        self.reference, self.folder = reference, folder
        self._last: tuple[str, Array] | None = None

    def __call__(self, items: Sequence[Item], first: int = 0) -> Array:
        prompt = repr((key_of(items), first))
        if self.folder is None:
            if self._last is None or self._last[0] != prompt:
                self._last = prompt, self.reference.logits(items, first)
            return self._last[1]
        path = self.folder / f"{hashlib.sha256(prompt.encode()).hexdigest()}.npy"
        if not path.is_file():
            with atomic_file(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, self.reference.logits(items, first))
        return np.load(path)


def key_of(items: Sequence[Item]) -> list[int | str]:
    """Of a prompt, with an image's hash in its place."""
    return [item.key if isinstance(item, Picture) else item for item in items]


def diverge(
    ours: Callable[[Sequence[Item]], Array], logits: Callable[[Sequence[Item]], Array],
    prompts: Sequence[Sequence[Item]], what: str, passages: Sequence[Sequence[int]] | None = None, course: Course = NOT_FOLLOWED,
) -> Divergence:  # fmt: skip
    """Compare the distributions after every token of prompts.

    Args:
        ours, logits: of the bundle and of the reference.
        prompts: token ids, and images among them.
        what: names this work.
        passages: what each prompt's tokens but the first belong to; where None, each prompt stands for itself.
        course: how it is followed, and gone on with.
    """
    found = Divergence.empty()
    for number, items in enumerate(prompts):
        ids = [item for item in items if not isinstance(item, Picture)]
        # The token that follows a text token in the text; an image between two is no token to predict.
        skip = SKIP if len(ids) > SKIP * 2 else 0
        units = [number] * (len(ids) - 1) if passages is None else passages[number]

        def compute(items: Sequence[Item] = items, ids: Sequence[int] = ids, skip: int = skip) -> dict[str, Any]:
            part = Divergence.empty()
            part.add(logits(items)[:-1], ours(items)[:-1], ids[1:], skip, [0] * (len(ids) - 1))
            return asdict(part)

        part = Divergence(**course.outputs.value((what, key_of(items)), compute))
        found.extend(replace(part, unit=list(units[skip:])))  # what else was measured decides the numbers of passages
        if part.kld:
            told = {"kld": round(float(np.mean(part.kld)), 6), "same_first": round(float(np.mean(part.same)), 6)}
            course.row({"of": what, "number": number + 1, **told})
        course.progress(what, number + 1, len(prompts))
    return found
