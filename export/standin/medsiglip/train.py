"""Train the stand-in `medsiglip-mini`, in less than three hours of two cores:

    python -m medge.export.standin.medsiglip.cache --data ../shared/data --cache ~/.cache/medge/standin2
    python -m medge.export.standin.medsiglip.teacher --cache ~/.cache/medge/standin2 --model vit_s_focus.onnx --out T
    python -m medge.export.standin.medsiglip.train --cache ~/.cache/medge/standin2 --teacher T --out DIR \\
        --tokenizer ../shared/data/medsiglip_tokenizer/tokenizer.json
    python -m medge.export.standin.medsiglip.evaluate --cache ~/.cache/medge/standin2 --run DIR --out FIGURES.json

The run goes on where it stopped: Ctrl-C and `--minutes` lose nothing, a kill at most two minutes, and what comes out is
the same, because each step's pictures, captions and augmentation follow from the seed and the step's number. DIR gets
`checkpoint.pt` (to go on), `log.jsonl` (losses each ten steps, validation figures each fifteen minutes) and at the end
`medsiglip_mini.safetensors`, the packed weights.

First small pictures (48 of 64 patches are seen), then large ones (98 of 196), last all of their patches: most of the
learning is done where a step costs a quarter. Beside pictures with captions each step has views of which a larger
model's features are foretold (`teacher`). Only pictures whose licence lets weights ship are trained on.

A GPU shortens it: --device cuda --workers 8.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.utils.data import DataLoader
from transformers import SiglipModel

from ....runtime.bundles.atomic import atomic_file
from ....runtime.errors import MedgeError
from .architecture import CONFIG
from .batches import Sampler, Step, Steps
from .cache import Cache
from .evaluate import Judge, prepare_tokenizer, validation
from .losses import feature_loss, question_loss, sigmoid_loss
from .model import Average, build, image_embeddings, text_embeddings, word_rows
from .packed import pack
from .teacher import WIDTH, ViewSampler
from .words import every_text

EOS, UNKNOWN = 1, 2  # ids of MedSigLIP's tokenizer


@dataclass(frozen=True)
class Phase:
    """A stretch of steps.

    Attributes:
        side: pixels of its pictures.
        keep: share of their patches that is seen.
        batch: pictures with captions in a step.
        steps: how many.
        views: pictures with a teacher's features in a step.
    """

    side: int
    keep: float
    batch: int
    steps: int
    views: int = 0


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out, besides the pictures.

    Attributes:
        phases: one after the other, under one schedule.
        rate: highest learning rate: warmed up over `warm_up` steps, then a cosine to a hundredth.
        mix: share of each domain in a batch.
        average: decay of the running mean of the weights, which is what is validated and packed.
        question_weight: of the cross-entropy within questions, beside SigLIP's loss.
        feature_weight: of the squared error of the teacher's features.
        fillers: share of captions among whose words stand some that the model does not know.
    """

    phases: tuple[Phase, ...] = (
        Phase(112, 0.75, 56, 2600, 28), Phase(196, 0.5, 56, 1500, 28), Phase(196, 1.0, 48, 150, 24),
    )  # fmt: skip
    rate: float = 1e-3
    warm_up: int = 200
    weight_decay: float = 0.1
    mix: dict[str, float] = field(
        default_factory=lambda: {
            "mednist": 16, "pneumoniamnist": 6, "vqa_rad": 8, "cxr_pneumonia": 9, "cxr_nih": 5, "cxr_covid": 2,
            "us_breast_busi": 8, "us_lung_pocus": 4, "mri_brain_tumour": 6, "cells_blood": 6,
        }
    )  # fmt: skip
    average: float = 0.998
    question_weight: float = 1.0
    feature_weight: float = 1.0
    fillers: float = 0.5
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

    def size(self, step: int) -> tuple[int, int, int]:
        """Of a step: pictures with captions, pictures with a teacher's features, side in pixels."""
        phase = self.phase(step)
        return phase.batch, phase.views, phase.side

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
        teacher: where the features of views are (see `teacher`); needed by a recipe with views.
        workers: processes that prepare the pictures of coming steps; 0 for none beside this one.
        device: where the model computes, as torch names it. A run goes on exactly only on the device it began on.

    Raises:
        MedgeError: the checkpoint there is of another recipe or other pictures.
    """

    def __init__(
        self, cache: Cache, tokenizer: Tokenizer, folder: Path, recipe: Recipe, teacher: Path | None = None, *,
        device: str = "cpu", workers: int = 0,
    ) -> None:  # fmt: skip
        self.cache, self.tokenizer, self.folder, self.recipe = cache, prepare_tokenizer(tokenizer), folder, recipe
        self.device = torch.device(device)
        ids = {token for encoding in self.tokenizer.encode_batch(every_text()) for token in encoding.ids}
        self.words = sorted(ids)
        self.model = build(recipe.config, recipe.seed, self.words)
        torch.nn.Module.to(self.model, self.device)  # transformers wraps its own in a way that hides the type
        table = self.model.text_model.embeddings.token_embedding.weight
        known = word_rows(len(table), self.words).to(self.device)
        table.register_hook(lambda gradient: gradient * known)  # fillers stay zero
        self.average = Average(self.model, recipe.average)
        # Foretells the teacher's features; it is not part of the model and not packed.
        self.head = torch.nn.Linear(recipe.config["vision_config"]["hidden_size"], WIDTH).to(self.device)
        self.optimiser = _optimiser(self.model, self.head, recipe)
        views = None if teacher is None else ViewSampler(cache, teacher, recipe.seed)
        if views is None and any(phase.views for phase in recipe.phases):
            raise MedgeError("this recipe has views of a teacher; say with --teacher where its features are")
        self.pictures = Steps(Sampler(cache, recipe.mix, recipe.seed), views, recipe.size)
        self.workers = workers
        cuda = self.device.type == "cuda"
        self.made_on = torch.cuda.get_device_name(self.device) if cuda else f"{torch.get_num_threads()} threads"
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
            "model": self.model.state_dict(), "head": self.head.state_dict(), "optimiser": self.optimiser.state_dict(),
            "average": self.average.state, "average_steps": self.average.steps, "made_on": self.made_on,
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
        self.head.load_state_dict(state["head"])
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

    def coming(self) -> Iterator[Step]:
        """The pictures of all steps from this one on."""
        return iter(
            DataLoader(
                self.pictures, batch_size=None, sampler=range(self.step, self.recipe.steps), num_workers=self.workers,
                prefetch_factor=4 if self.workers else None,
            )
        )  # fmt: skip

    def train_step(self, step: Step) -> dict[str, float]:
        """One step; returns its losses."""
        recipe, batch = self.recipe, step.batch
        number = recipe.seed * 1_000_003 + self.step
        ids = with_fillers(
            [encoding.ids for encoding in self.tokenizer.encode_batch(batch.texts)], recipe.fillers, number
        )
        generator = torch.Generator().manual_seed(number)
        relations = batch.relations.to(self.device)
        pixels = torch.cat([batch.pixels, step.views]).to(self.device)
        seen = image_embeddings(self.model, pixels, recipe.phase(self.step).keep, generator)
        images, views = seen[: len(batch.pixels)], seen[len(batch.pixels) :]
        texts = text_embeddings(self.model, torch.tensor(ids, device=self.device))
        similarity = images @ texts.T * self.model.logit_scale.exp()
        pairs = sigmoid_loss(similarity + self.model.logit_bias, relations)
        answers = question_loss(similarity, relations, batch.questions)
        # Embeddings have length 1, so each of their numbers is small.
        features = feature_loss(self.head(views * math.sqrt(views.shape[1])), step.targets.to(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        (pairs + recipe.question_weight * answers + recipe.feature_weight * features).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        rate = self.recipe.rate_at(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["times"]
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(100))
        self.average.update(self.model)
        self.step += 1
        losses = {"pairs": pairs, "answers": answers, "features": features}
        return {name: round(loss.item(), 4) for name, loss in losses.items()}

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
        coming = self.coming()
        while self.step < self.recipe.steps and clock() - begun < minutes * 60 and not self.stopping:
            start = clock()
            losses = self.train_step(next(coming))
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


def with_fillers(ids: list[list[int]], share: float, seed: int) -> list[list[int]]:
    """Put one to three unknown words into a share of the captions, at any place; all stay as long as they were.

    The rows of words outside the captions are zero and stay so: a wording that was never trained on is, to the model,
    one with gaps, and it learns here to read over them.
    """
    rng = random.Random(seed)
    out = []
    for caption in ids:
        longer = list(caption)
        if rng.random() < share:
            words = longer.index(EOS) if EOS in longer else len(longer)
            for _ in range(rng.randint(1, 3)):
                longer.insert(rng.randint(0, words), UNKNOWN)
        out.append(longer[: len(caption)])
    return out


def _optimiser(model: SiglipModel, head: torch.nn.Linear, recipe: Recipe) -> torch.optim.AdamW:
    table = model.text_model.embeddings.token_embedding.weight
    scalars = [model.logit_scale, model.logit_bias]
    apart = {id(tensor) for tensor in (table, *scalars)}
    others = [*(tensor for tensor in model.parameters() if id(tensor) not in apart), *head.parameters()]
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
    parser.add_argument("--teacher", type=Path, help="what medge.export.standin.medsiglip.teacher wrote")
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
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare pictures, for --device cuda")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = replace(TRIAL if args.trial else Recipe(), seed=args.seed)
    if args.shorten != 1:
        recipe = recipe.shortened(args.shorten)
    run = Run(
        Cache(args.cache), Tokenizer.from_file(str(args.tokenizer)), args.out, recipe, args.teacher,
        device=args.device, workers=args.workers,
    )  # fmt: skip
    signal.signal(signal.SIGINT, run.stop)
    if run.go(args.minutes, args.validate_every):
        print(f"{run.finish()} is written; judge it with python -m medge.export.standin.medsiglip.evaluate")
    else:
        print(f"stopped at step {run.step} of {recipe.steps}; the same command goes on")


if __name__ == "__main__":
    main()
