"""Pictures through an encoder by Ray Data, on this machine or a cluster: `medge evaluate --engine ray`.

The images go in shards, as those of a distillation's teacher do; as shards come, rows are written in the images' order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...quant.distill.shards import PassPlan, Shard, computed
from ...runtime.bundles.claim import remove
from ...runtime.bundles.manifest import sha256_json
from ...runtime.commands.evaluation.subject import Candidate
from ...runtime.console.image_run import Input
from ...runtime.errors import DistillationError, ImageError
from ...runtime.pictures.view import View

PER_SHARD = 64  # images: whole batches of `stream_images`, so that batches are those of a run in one process
FOLDER = ".shards-"


@dataclass(frozen=True)
class RayPictures:
    """Embeds pictures in processes of Ray's.

    A process that dies is started again and does its shard again; what is written stays. Of a run that was killed itself, the
    next does what has no row yet.

    Attributes:
        candidate: the encoder, which each process opens; by default on one thread, since processes share the cores.
        identity: of the model.
        place: the run's folder, where shards lie until all is done; with a cluster, one that all machines see.
        address: of a Ray cluster; None for this machine.
        workers: processes.
        per_shard: images in a shard.
    """

    candidate: Candidate
    identity: str
    place: Path
    address: str | None = None
    workers: int = 1
    per_shard: int = PER_SHARD

    def __call__(
        self, inputs: Sequence[Input], view: View
    ) -> Iterator[tuple[Input, NDArray[np.float32] | ImageError]]:  # fmt: skip
        """The images' embeddings, (D,) float32 of unit length: in order, but for what is left to give when Ray gives up.

        Raises:
            DistillationError: Ray did not start, can't be reached or gave up.
            MissingExtraError: Ray is not installed.
        """
        if not inputs:
            return
        plan = self._plan(inputs)
        plan.begin()
        candidate = replace(self.candidate, threads=self.candidate.threads or 1)
        made = computed(
            plan, partial(_Worker, candidate, inputs, view), engine="ray", address=self.address, workers=self.workers,
            gpus=candidate.gpus,
        )  # fmt: skip
        there, given = set(plan.starts) - set(plan.missing()), set[int]()
        with contextlib.closing(made):
            try:
                for start in plan.starts:
                    while start not in there:
                        there.add(next(made))
                    given.add(start)
                    yield from _read(plan, start, inputs)
            except DistillationError:
                for start in sorted(set(plan.starts) - set(plan.missing()) - given):
                    yield from _read(plan, start, inputs)
                raise
        remove(plan.folder)

    def _plan(self, inputs: Sequence[Input]) -> PassPlan:
        """Shards in a folder of their own; what killed runs over other images have left is removed."""
        facts = {"model": self.identity, "images": sha256_json([one.name for one in inputs])}
        plan = PassPlan(self.place.absolute(), len(inputs), self.per_shard, facts)
        plan = replace(plan, folder=plan.folder / f"{FOLDER}{plan.fingerprint[:16]}")
        for old in self.place.glob(f"{FOLDER}*"):
            if old.name != plan.folder.name:
                remove(old)
        return plan


class _Worker:
    """What a process of Ray's does: it opens the encoder once, then makes shards of "embedding" (N, D) float32 and "error" (N,),
    which is "" of an image that can be read."""

    def __init__(self, candidate: Candidate, inputs: Sequence[Input], view: View) -> None:
        subject = candidate.open()
        self._through, self._size = subject.through, subject.encoder.facts.embedding_size
        self._inputs, self._view = inputs, view

    def __call__(self, start: int, stop: int) -> Shard:
        embeddings, errors = np.zeros((stop - start, self._size), np.float32), [""] * (stop - start)
        for place, (_, found) in enumerate(self._through(self._inputs[start:stop], self._view)):
            if isinstance(found, ImageError):
                errors[place] = str(found)
            else:
                embeddings[place] = found
        return Shard({"embedding": embeddings, "error": np.array(errors)})


def _read(
    plan: PassPlan, start: int, inputs: Sequence[Input]
) -> Iterator[tuple[Input, NDArray[np.float32] | ImageError]]:  # fmt: skip
    embeddings, errors = (np.load(plan.place(start) / f"{name}.npy") for name in ("embedding", "error"))
    for one, embedding, error in zip(inputs[start : plan.end(start)], embeddings, errors.tolist(), strict=True):
        yield one, ImageError(error) if error else embedding
