"""Linear probes on shares of the labels: how many labelled images does a model's embedding need?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..encoder.linear_probe import Probe, fit_probe
from ..errors import ProbeError
from .items import Item, drawn

Embeddings = Mapping[str, NDArray[np.float32]]
SHARES = (0.01, 0.05, 0.1, 1.0)  # of the training side, as MedSigLIP's own report has them


def with_split(items: Sequence[Item], seed: int) -> list[Item]:
    """Items of data without a split of their own: half of the groups, drawn at random, are for training.

    Args:
        items: all on one side; an item without a group is a group of its own.
        seed: of the draw.
    """
    names = sorted({item.group or item.key for item in items})
    order = np.random.default_rng(seed).permutation(len(names))
    train = {names[place] for place in order[: len(names) // 2]}
    return [replace(item, part="train" if (item.group or item.key) in train else "test") for item in items]


def share_of(items: Sequence[Item], share: float, seed: int) -> list[Item]:
    """A share of the items, drawn at random; a greater share holds every item of a smaller one."""
    return drawn(items, max(1, round(share * len(items))), seed)


def scores_by_probe(
    train: Sequence[Item], test: Sequence[Item], embeddings: Embeddings, labels: Sequence[str], *, one: bool, seed: int
) -> NDArray[np.float64]:
    """Probabilities, (len(test), len(labels)), by a logistic regression on embeddings: one over all labels, or one a finding.

    Args:
        train: items to fit on.
        test: items to score.
        embeddings: {key: embedding} of both.
        labels: L of them.
        one: whether each item has exactly one label.
        seed: of the choice of regularisation.

    Raises:
        ProbeError: there are fewer than two items of a label, or of its absence.
    """
    asked = np.stack([embeddings[item.key] for item in test])
    if one:
        names = [next(label for label in labels if item.truth.get(label)) for item in train]
        probe = _fitted(train, names, embeddings, seed)
        scores = np.zeros((len(test), len(labels)))
        scores[:, [labels.index(label) for label in probe.labels]] = probe.predict(asked)
        return scores
    columns = []
    for label in labels:
        known = [item for item in train if label in item.truth]
        names = ["present" if item.truth[label] else "absent" for item in known]
        try:
            probe = _fitted(known, names, embeddings, seed)
        except ProbeError as error:
            raise ProbeError(f"{label}: {error}") from error
        columns.append(probe.predict(asked)[:, probe.labels.index("present")].astype(np.float64))
    return np.stack(columns, axis=1)


def _fitted(items: Sequence[Item], names: list[str], embeddings: Embeddings, seed: int) -> Probe:
    if not items:
        raise ProbeError("no image of which it is known")
    return fit_probe(np.stack([embeddings[item.key] for item in items]), names, "", seed=seed)
