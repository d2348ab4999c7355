"""Train the stand-in `medsiglip-mini`, in less than two hours of two cores:

    python -m medge.export.standin.medsiglip.cache --data ../shared/data --cache ~/.cache/medge/standin2
    python -m medge.export.standin.medsiglip.train --cache ~/.cache/medge/standin2 --out DIR \\
        --tokenizer ../shared/data/medsiglip_tokenizer/tokenizer.json
    python -m medge.export.standin.medsiglip.evaluate --cache ~/.cache/medge/standin2 --run DIR --out FIGURES.json

The run goes on where it stopped: Ctrl-C and `--minutes` lose nothing, a kill at most two minutes, and what comes out is
the same, because each step's pictures, captions and augmentation follow from the seed and the step's number. DIR gets
`checkpoint.pt` (to go on), `log.jsonl` (losses each ten steps, validation figures each fifteen minutes) and at the end
`medsiglip_mini.safetensors`, the packed weights.

First small pictures (48 of 64 patches are seen), then large ones (98 of 196), last all of their patches: most of the
learning is done where a step costs a quarter. Only pictures whose licence lets weights ship are trained on.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import SiglipModel

from ....runtime.bundles.atomic import atomic_file
from ....runtime.errors import MedgeError
from .architecture import CONFIG
from .batches import Sampler
from .cache import Cache
from .evaluate import Judge, prepare_tokenizer, validation
from .losses import question_loss, sigmoid_loss
from .model import Average, build, image_embeddings, text_embeddings
from .packed import pack
from .words import every_text


@dataclass(frozen=True)
class Phase:
    """A stretch of steps: pictures of `side` pixels, of whose patches the share `keep` is seen, `batch` at a time."""

    side: int
    keep: float
    batch: int
    steps: int


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out, besides the pictures.

    Attributes:
        phases: one after the other, under one schedule.
        rate: highest learning rate: warmed up over `warm_up` steps, then a cosine to a hundredth.
        mix: share of each domain in a batch.
        average: decay of the running mean of the weights, which is what is validated and packed.
        question_weight: of the cross-entropy within questions, beside SigLIP's loss.
    """

    phases: tuple[Phase, ...] = (Phase(112, 0.75, 64, 2200), Phase(196, 0.5, 64, 1300), Phase(196, 1.0, 48, 220))
    rate: float = 1e-3
    warm_up: int = 200
    weight_decay: float = 0.1
    mix: dict[str, float] = field(
        default_factory=lambda: {
            "mednist": 10, "pneumoniamnist": 6, "vqa_rad": 6, "cxr_pneumonia": 9, "cxr_nih": 9, "cxr_covid": 2,
            "us_breast_busi": 8, "us_lung_pocus": 4, "mri_brain_tumour": 6, "cells_blood": 6,
        }
    )  # fmt: skip
    average: float = 0.998
    question_weight: float = 1.0
    seed: int = 20261126
    config: dict[str, Any] = field(default_factory=lambda: CONFIG)

    @property
    def steps(self) -> int:
        """Of all phases together."""
        return sum(phase.steps for phase in self.phases)

    def phase(self, step: int) -> Phase:
        """The phase of a step."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.phases[-1]

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        warm = min((step + 1) / self.warm_up, 1.0)
        return self.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / self.steps)))

    def shortened(self, share: float) -> Recipe:
        """The same in fewer steps."""
        phases = tuple(replace(phase, steps=max(round(phase.steps * share), 1)) for phase in self.phases)
        return replace(
            self, phases=phases, warm_up=max(round(self.warm_up * share), 1), average=self.average ** (1 / share)
        )


# To see within some minutes that everything works and what is learned first.
TRIAL = replace(Recipe(), phases=(Phase(112, 0.5, 48, 260), Phase(196, 0.5, 32, 12)), warm_up=30, average=0.97)


class Run:
    """A training run in a folder: its state, a checkpoint to go on from, and a log.

    Args:
        folder: where checkpoint and log are; what lies there is gone on with.
        device: where the model computes, as torch names it. A run goes on exactly only on the device it began on.

    Raises:
        MedgeError: the checkpoint there is of another recipe or other pictures.
    """

    def __init__(
        self, cache: Cache, tokenizer: Tokenizer, folder: Path, recipe: Recipe, device: str = "cpu"
    ) -> None:  # fmt: skip
        self.cache, self.tokenizer, self.folder, self.recipe = cache, prepare_tokenizer(tokenizer), folder, recipe
        self.device = torch.device(device)
        ids = {token for encoding in self.tokenizer.encode_batch(every_text()) for token in encoding.ids}
        self.words = sorted(ids)
        self.model = build(recipe.config, recipe.seed, self.words)
        torch.nn.Module.to(self.model, self.device)  # transformers wraps its own in a way that hides the type
        self.average = Average(self.model, recipe.average)
        self.optimiser = _optimiser(self.model, recipe)
        self.sampler = Sampler(cache, recipe.mix, recipe.seed)
        self.step, self.seconds = 0, 0.0
        # Set by a signal; a step that has begun is ended, so that the checkpoint is of whole steps.
        self.stopping = False
        self._made_by = json.dumps([asdict(recipe), cache.digest], sort_keys=True)
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint, self.log = folder / "checkpoint.pt", folder / "log.jsonl"
        if self.checkpoint.exists():
            self._resume()
        else:
            self.log.unlink(missing_ok=True)

    def stop(self, *_: object) -> None:
        """End after this step; what a signal calls."""
        self.stopping = True

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "made_by": self._made_by, "step": self.step, "seconds": self.seconds,
            "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(),
            "average": self.average.state, "average_steps": self.average.steps,
        }  # fmt: skip
        with atomic_file(self.checkpoint) as partial:
            torch.save(state, partial)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
        if state["made_by"] != self._made_by:
            raise MedgeError(
                f"{self.checkpoint} is of another recipe or other pictures; choose another --out or delete it"
            )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.state, self.average.steps = state["average"], state["average_steps"]
        self.step, self.seconds = state["step"], state["seconds"]
        # What was logged after the checkpoint is done again.
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= self.step]
        self.log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def record(self, **entry: Any) -> None:
        """Add a line to the log and print it."""
        line = json.dumps({"step": self.step, "minutes": round(self.seconds / 60, 2), **entry})
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        print(line, flush=True)

    def train_step(self) -> dict[str, float]:
        """One step; returns its losses."""
        phase = self.recipe.phase(self.step)
        batch = self.sampler.batch(self.step, phase.batch, phase.side)
        ids = torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(batch.texts)])
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.step)
        relations = batch.relations.to(self.device)
        images = image_embeddings(self.model, batch.pixels.to(self.device), phase.keep, generator)
        texts = text_embeddings(self.model, ids.to(self.device))
        similarity = images @ texts.T * self.model.logit_scale.exp()
        pairs = sigmoid_loss(similarity + self.model.logit_bias, relations)
        answers = question_loss(similarity, relations, batch.questions)
        self.optimiser.zero_grad(set_to_none=True)
        (pairs + self.recipe.question_weight * answers).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        rate = self.recipe.rate_at(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["times"]
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(100))
        self.average.update(self.model)
        self.step += 1
        return {"pairs": round(pairs.item(), 4), "answers": round(answers.item(), 4)}

    def validate(self) -> None:
        """Log the validation figures of the mean weights."""
        start = time.perf_counter()
        with self.average.applied(self.model):
            found = validation(Judge(self.model, self.tokenizer, self.cache))
        self.seconds += time.perf_counter() - start
        self.record(validation=found)

    def go(self, minutes: float = math.inf, every: float = 15, clock: Callable[[], float] = time.perf_counter) -> bool:
        """Train until the end, or for some minutes; returns whether the end was reached.

        Args:
            minutes: of this call, after which it saves and stops.
            every: minutes between two validations.
            clock: that tells seconds.
        """
        begun = validated = saved = clock()
        self.model.train()
        while self.step < self.recipe.steps and clock() - begun < minutes * 60 and not self.stopping:
            start = clock()
            losses = self.train_step()
            self.seconds += clock() - start
            if self.step % 10 == 0:
                self.record(**losses)
            if clock() - validated > every * 60:
                self.validate()
                validated = clock()
            if clock() - saved > 120:
                self.save()
                saved = clock()
        self.save()
        return self.step >= self.recipe.steps

    def finish(self) -> Path:
        """Validate and pack the mean weights; returns the packed file."""
        self.validate()
        self.save()
        packed = self.folder / "medsiglip_mini.safetensors"
        state = {name: tensor.cpu() for name, tensor in self.average.state.items()}
        pack(state, self.tokenizer, self.words, packed)
        return packed


def _optimiser(model: SiglipModel, recipe: Recipe) -> torch.optim.AdamW:
    table = model.text_model.embeddings.token_embedding.weight
    scalars = [model.logit_scale, model.logit_bias]
    apart = {id(tensor) for tensor in (table, *scalars)}
    others = [tensor for tensor in model.parameters() if id(tensor) not in apart]
    groups = [
        {"params": [tensor for tensor in others if tensor.ndim > 1], "weight_decay": recipe.weight_decay, "times": 1.0},
        {"params": [*(tensor for tensor in others if tensor.ndim <= 1), table], "weight_decay": 0.0, "times": 1.0},
        {"params": scalars, "weight_decay": 0.0, "times": 3.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="what medge.export.standin.medsiglip.cache wrote")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json of MedSigLIP")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many; run it again to go on")
    parser.add_argument("--validate-every", type=float, default=15, help="minutes")
    parser.add_argument(
        "--trial", action="store_true", help="a recipe of some ten minutes of one core, to try all parts"
    )
    parser.add_argument("--shorten", type=float, default=1.0, help="share of the recipe's steps, for slower machines")
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cuda, where there is one; the recipe is made for two cores")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = replace(TRIAL if args.trial else Recipe(), seed=args.seed)
    if args.shorten != 1:
        recipe = recipe.shortened(args.shorten)
    run = Run(Cache(args.cache), Tokenizer.from_file(str(args.tokenizer)), args.out, recipe, args.device)
    signal.signal(signal.SIGINT, run.stop)
    if run.go(args.minutes, args.validate_every):
        print(f"{run.finish()} is written; judge it with python -m medge.export.standin.medsiglip.evaluate")
    else:
        print(f"stopped at step {run.step} of {recipe.steps}; the same command goes on")


if __name__ == "__main__":
    main()
