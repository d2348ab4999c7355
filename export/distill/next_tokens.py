"""What a language model learns from the shards of a teacher that went over its prompts, and how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...quant.distill import losses
from ...quant.distill.shards import PassPlan, ShardSet
from ...runtime.pictures.images import Refused
from ...runtime.progress import Progress
from ..source.checkpoint import Checkpoint
from .image_teacher import as_pixels
from .job import Finish, GeneratorDistillation
from .prompt_teacher import BATCH, Prompt, PromptTeacher, digest, padded
from .steps import teacher_pass


class TeacherTokens:
    """The next tokens that a teacher expects at places of prompts, beside what another model gives there.

    Args:
        shards: of `PromptTeacher`.
        prompts: that it went over.
    """

    def __init__(self, shards: ShardSet, prompts: Sequence[Prompt]) -> None:
        self._shards, self._prompts = shards, prompts
        self._numbers = shards.all("number")
        self._image = np.array([prompts[number].image is not None for number in self._numbers.tolist()])

    def __len__(self) -> int:
        return len(self._numbers)

    def beside(self, model: torch.nn.Module, rows: NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """At the N places of some examples: the model's logits, (N, V), and the teacher's K likeliest tokens with the
        logarithms of their probabilities, (N, K) each."""
        device = next(model.parameters()).device
        # Texts first, so that the images' pixels come in the order of their prompts.
        rows = rows[np.argsort(self._image[rows], kind="stable")]
        ids, mask = padded([self._prompts[number].ids for number in self._numbers[rows].tolist()])
        places = self._shards.rows("places", rows)
        which, column = np.nonzero(places >= 0)
        pixels = None
        if (images := rows[self._image[rows]]).size:
            pixels = as_pixels(self._shards.rows("pixels", images), device)
        logits = model(
            ids.to(device), mask.to(device), torch.from_numpy(which).to(device),
            torch.from_numpy(places[which, column].astype(np.int64)).to(device), pixels,
        )  # fmt: skip
        top = torch.from_numpy(self._shards.rows("top", rows)[which, column].astype(np.int64)).to(device)
        log = torch.from_numpy(self._shards.rows("log", rows)[which, column].astype(np.float32)).to(device)
        return logits, top, log


def pass_facts(
    job: GeneratorDistillation | Finish, checkpoint: Checkpoint, prompts: Sequence[Prompt]
) -> dict[str, Any]:
    """What a teacher's shards depend on, and training from them as well."""
    return {
        "teacher": checkpoint.hashes, "top": job.top, "positions": job.positions, "seed": job.training.seed,
        "precision": job.training.precision, "data": digest(prompts),
    }  # fmt: skip


def teacher_tokens(
    job: GeneratorDistillation | Finish, facts: Mapping[str, Any], prompts: Sequence[Prompt], name: str, state: Any,
    progress: Progress,
) -> tuple[TeacherTokens, list[Refused]]:  # fmt: skip
    """Let the teacher go over prompts, as far as an earlier run has not.

    Args:
        job: what is asked for.
        facts: of `pass_facts`.
        prompts: that it goes over.
        name: of the shards, in the job's workplace.
        state: of `quant.distill.train.process_state`.
        progress: called as work advances.

    Returns:
        what it said, and a message for each image that could not be read.
    """
    plan = PassPlan(job.workplace / name, len(prompts), job.data_pass.per_shard, facts)
    options = job.training
    make = partial(PromptTeacher, job.teacher, prompts, job.top, job.positions, options.seed, options.precision)
    shards = teacher_pass(plan, make, job.data_pass, state, f"teacher: {name}", progress)
    images = [str(prompts[number].image) for number in shards.skipped]
    return TeacherTokens(shards, prompts), [Refused(image, f"{image}: can't be read") for image in images]


class TokenObjective:
    """A model's next-token distributions are the teacher's.

    Args:
        told: what the teacher said.
        divergence: which is made small.
        judged: figures of a model on examples that it is not trained on.
    """

    def __init__(
        self,
        told: TeacherTokens,
        divergence: losses.Divergence,
        judged: Callable[[torch.nn.Module], Mapping[str, float]],
    ) -> None:
        self._told, self._divergence, self._judged = told, divergence, judged

    def __len__(self) -> int:
        return len(self._told)

    def terms(self, model: torch.nn.Module, rows: NDArray[np.intp], step: int) -> dict[str, torch.Tensor]:
        logits, top, log = self._told.beside(model, rows)
        return {self._divergence: losses.top_k_divergence(logits, top, log, self._divergence)}

    def held_back(self, model: torch.nn.Module) -> dict[str, float]:
        return dict(self._judged(model))


@torch.inference_mode()
def likeness(model: torch.nn.Module, told: TeacherTokens) -> dict[str, float]:
    """How near a model is to what a teacher said: "divergence", the mean KL divergence from the teacher in nats, by its likeliest
    tokens, and "same_first_choice", the share of places with its likeliest token."""
    nats = same = places = 0.0
    for start in range(0, len(told), BATCH):
        logits, top, log = told.beside(model, np.arange(start, min(start + BATCH, len(told))))
        nats += float(losses.top_k_divergence(logits, top, log)) * len(logits)
        same += float((logits.argmax(-1) == top[:, 0]).sum())
        places += len(logits)
    return {"divergence": nats / places, "same_first_choice": same / places}


@torch.inference_mode()
def judge(model: torch.nn.Module, held: Sequence[Prompt]) -> tuple[float, NDArray[np.intp]]:
    """Mean negative log-likelihood of the tokens of texts, and the likeliest token at each of their places."""
    device = next(model.parameters()).device
    total, count, best = 0.0, 0, []
    for start in range(0, len(held), BATCH):
        ids, mask = padded([prompt.ids for prompt in held[start : start + BATCH]])
        rows, places = torch.nonzero(mask[:, 1:], as_tuple=True)
        logits = model(ids.to(device), mask.to(device), rows.to(device), places.to(device)).float()
        following = ids[rows, places + 1].to(device)
        total += float(torch.nn.functional.cross_entropy(logits, following, reduction="sum"))
        count += len(following)
        best.append(logits.argmax(-1).cpu().numpy())
    return total / count, np.concatenate(best)
