"""Zero-shot: how likely each label is, from an image's embedding and the averaged embeddings of the labels' prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..encoder.embedder import Embedder, sigmoid
from ..encoder.labels import LabelBank, as_prompts
from ..errors import TaskError
from .task import Task

Prompts = Mapping[str, Sequence[str]]


class ZeroShot:
    """Scores embeddings for the labels of a task.

    With one label an item, by a softmax over the labels. Of findings, each by a softmax over its two sets of prompts: that it is
    there, and that it is not.

    Args:
        encoder: what embeds the prompts.
        there: {label: prompts}.
        gone: of findings, {label: prompts that say that it is not there}; empty where each item has one label.
    """

    def __init__(self, encoder: Embedder, there: Prompts, gone: Prompts) -> None:
        self._encoder = encoder
        self.prompts = {"there": {name: list(group) for name, group in there.items()},
                        "gone": {name: list(group) for name, group in gone.items()}}  # fmt: skip
        self._there = LabelBank.build(as_prompts(self.prompts["there"]), encoder.embed_texts)
        self._gone = LabelBank.build(as_prompts(self.prompts["gone"]), encoder.embed_texts) if gone else None

    def __call__(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """The labels' probabilities, (L,) float32, of an image's embedding, (D,) float32 of unit length."""
        found = self._encoder.score(embedding[None], self._there)[0]
        if self._gone is None:
            assert found.softmax is not None  # there is more than one label
            return found.softmax
        without = self._encoder.score(embedding[None], self._gone)[0].cosine.astype(np.float64)
        return sigmoid((found.cosine.astype(np.float64) - without) * self._encoder.facts.logit_scale)


def prompts_of(task: Task, labels: Sequence[str], own: Mapping[str, list[str]] | None) -> tuple[Prompts, Prompts]:
    """What is asked for each label: that it holds, and, of findings, that it does not.

    Args:
        task: the task.
        labels: its labels, or those that the data have.
        own: {label: prompts} in the place of the task's; None for the task's.

    Raises:
        TaskError: a label has no prompts, fewer than two labels are there, or findings are asked with prompts of one's own,
            which have no opposite.
    """
    if task.form == "findings":
        if own is not None:
            raise TaskError("findings are asked by pairs of prompts: write a task's file of your own, not --labels")
        return {name: task.prompts(name) for name in labels}, {name: task.prompts_without(name) for name in labels}
    if len(labels) < 2:
        raise TaskError(f"there is one label only, {', '.join(labels)}: nothing to tell apart")
    if own is not None and (lost := [name for name in labels if name not in own]):
        raise TaskError(f"--labels has no prompts for {', '.join(lost)}")
    return {name: own[name] if own is not None else task.prompts(name) for name in labels}, {}
