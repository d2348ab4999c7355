"""What a training step sees: pictures drawn evenly over domains and classes, and captions that ask about them."""

from __future__ import annotations

import collections
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from .augment import PART, cut, shade, usual_cut
from .cache import Cache
from .teacher import WIDTH, ViewSampler
from .words import NIH_FINDINGS, QUESTIONS, Caption, draw, relation, values

PARTS = 0.15  # share of the pictures of which a small part is shown


@dataclass(frozen=True)
class Batch:
    """One step's input.

    Attributes:
        pixels: (pictures, 3, side, side) in [-1, 1].
        texts: the captions' words; those of one question stand together.
        questions: the question of each caption.
        relations: (pictures, captions): +1 true, -1 false, 0 unknown.
    """

    pixels: torch.Tensor
    texts: list[str]
    questions: list[str]
    relations: torch.Tensor


@dataclass(frozen=True)
class Step:
    """All pictures of one step.

    Attributes:
        batch: those with captions.
        views, targets: those with a teacher's features, (views, 3, side, side) and (views, teacher's width).
    """

    batch: Batch
    views: torch.Tensor
    targets: torch.Tensor


class Steps(Dataset[Step]):
    """What each step of a schedule sees, by the step's number; processes of a `DataLoader` can prepare them ahead.

    Args:
        size: of a step: pictures with captions, pictures with a teacher's features, side in pixels.
        views: where the latter come from; none are drawn without it.
    """

    def __init__(
        self, sampler: Sampler, views: ViewSampler | None, size: Callable[[int], tuple[int, int, int]]
    ) -> None:
        self._sampler, self._views, self._size = sampler, views, size

    def __getitem__(self, step: int) -> Step:
        pictures, views, side = self._size(step)
        batch = self._sampler.batch(step, pictures, side)
        if self._views is None or not views:
            return Step(batch, torch.zeros(0, 3, side, side), torch.zeros(0, WIDTH))
        seen, targets = self._views.batch(step, views, side)
        return Step(batch, torch.from_numpy(seen), torch.from_numpy(targets))


class Sampler:
    """Draws batches; step n's batch depends on the seed and on n alone, so that a resumed run sees the same.

    Args:
        mix: how much of a batch each domain has, in any unit.
    """

    def __init__(self, cache: Cache, mix: dict[str, float], seed: int) -> None:
        self.cache, self.seed = cache, seed
        self.pools: dict[str, dict[str, list[int]]] = {}
        for domain in mix:
            pools: dict[str, list[int]] = collections.defaultdict(list)
            for index in cache.select("train", domain=domain, ships=True):
                pools[cache.rows[index].label].append(index)
            if pools:
                self.pools[domain] = dict(pools)
        self.mix = {domain: share for domain, share in mix.items() if domain in self.pools}

    def batch(self, step: int, count: int, side: int) -> Batch:
        """The batch of a step: `count` pictures of `side` pixels."""
        rng = random.Random(f"{self.seed}/{step}")
        images, facts = [], []
        for domain, share in self._shares(count, rng).items():
            labels = list(self.pools[domain])
            weights = [math.sqrt(len(self.pools[domain][label])) for label in labels]
            for label in rng.choices(labels, weights, k=share):
                index = rng.choice(self.pools[domain][label])
                known = self.cache.rows[index].facts
                how = usual_cut(known.get("modality"))
                if rng.random() < PARTS and "modality" in known:
                    how, known = PART, {"modality": known["modality"]}
                images.append(shade(cut(self.cache.image(index), side, how, rng), rng))
                facts.append(known)
        captions = ask(facts, rng)
        relations = torch.tensor([[relation(known, caption) for caption in captions] for known in facts])
        return Batch(
            torch.from_numpy(np.stack(images)), [caption.text for caption in captions],
            [caption.question for caption in captions], relations,
        )  # fmt: skip

    def _shares(self, count: int, rng: random.Random) -> dict[str, int]:
        """Whole numbers that add up to `count`, by the largest remainders; ties by chance."""
        total = sum(self.mix.values())
        exact = {domain: share * count / total for domain, share in self.mix.items()}
        shares = {domain: int(value) for domain, value in exact.items()}
        rest = sorted(exact, key=lambda domain: (exact[domain] - shares[domain], rng.random()), reverse=True)
        for domain in rest[: count - sum(shares.values())]:
            shares[domain] += 1
        return shares


def ask(facts: list[dict[str, str]], rng: random.Random) -> list[Caption]:
    """A caption for every answer to the questions that some picture answers; no text twice.

    A caption costs as much as a fifth of a picture. So of the questions that all pictures answer (kind, modality, organ)
    one is asked in a step, and of NIH's six findings two.
    """
    left_out = set(rng.sample(sorted(NIH_FINDINGS), len(NIH_FINDINGS) - 2))
    left_out |= {"kind", "modality", "organ"} - {rng.choice(("kind", "kind", "modality", "organ"))}
    captions: list[Caption] = []
    for question, what in QUESTIONS.items():
        answered = any(all(known.get(key, "never") != "never" for key in what.keys) for known in facts)
        if question in left_out or not answered:
            continue
        texts: dict[str, Caption] = {}
        for answer in values(question):
            caption = draw(question, answer, rng)
            if all(caption.text != other.text for other in captions):
                texts[caption.text] = caption
        captions += texts.values()
    return captions
