"""The training loop of all distillations: Accelerate for devices and precision, checkpoints that a kill leaves whole.

Every random choice follows from the seed and the number of the step, so a run that was interrupted and goes on ends with
the same weights as one that was not.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ...runtime.bundles.atomic import atomic_folder
from ...runtime.bundles.manifest import sha256_json
from ...runtime.errors import DistillationError, MissingExtraError
from ...runtime.progress import Progress, no_progress

Precision = Literal["no", "bf16", "fp16"]
LOG_EVERY = 10
KEPT = 2  # checkpoints


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: of the optimiser.
        batch: examples that go through at once on each device.
        accumulate: batches whose gradients are added up for one step.
        rate: greatest learning rate; warmed up over a twentieth of the steps, then a cosine to a hundredth.
        decay: weight decay of matrices.
        precision: of the forward pass; weights and optimiser stay in 32 bits.
        clip: greatest norm of a gradient.
        seed: of the order of examples.
        save_every: steps between checkpoints.
    """

    steps: int
    batch: int = 64
    accumulate: int = 1
    rate: float = 1e-3
    decay: float = 0.02
    precision: Precision = "no"
    clip: float = 1.0
    seed: int = 0
    save_every: int = 100

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        warm = max(1, self.steps // 20)
        if step < warm:
            return self.rate * (step + 1) / warm
        through = (step - warm) / max(1, self.steps - warm)
        return self.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * through)))


class Objective(Protocol):
    """What is learned: a number of examples, and the terms of the loss of some of them."""

    def __len__(self) -> int: ...

    def terms(self, model: torch.nn.Module, rows: NDArray[np.intp], step: int) -> dict[str, torch.Tensor]:
        """Weighted terms, whose sum is minimised, for these examples."""
        ...

    def held_back(self, model: torch.nn.Module) -> dict[str, float]:
        """Figures on examples that are never trained on; for the curve."""
        ...


@dataclass
class Curve:
    """What training looked like: one row for every tenth step."""

    rows: list[dict[str, float]] = field(default_factory=list)


def train(
    model: torch.nn.Module, objective: Objective, schedule: Schedule, folder: Path, facts: Mapping[str, Any],
    *, what: str = "training", cpu: bool = False, progress: Progress = no_progress,
) -> Curve:  # fmt: skip
    """Train in place, from the last checkpoint in `folder` where there is one.

    Args:
        model: its parameters that require a gradient are trained.
        objective: the loss.
        schedule: how.
        folder: of checkpoints.
        facts: what the run depends on, JSON; a checkpoint of another run is refused.
        what: how progress names it.
        cpu: stay off a GPU.

    Raises:
        DistillationError: the loss is no number any more (says the step and the last good checkpoint), or a
            checkpoint of another run lies there.
    """
    process_state(cpu=cpu)
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # one process trains tower after tower, and may do so in another precision
    accelerator = Accelerator(mixed_precision=schedule.precision, cpu=cpu)
    optimiser: Any = _optimiser(model, schedule)
    store = _Checkpoints(folder, {**facts, "schedule": asdict(schedule), "processes": accelerator.num_processes})
    prepared, optimiser = accelerator.prepare(model, optimiser)
    first, curve = store.load(model, optimiser, accelerator)
    order = _Order(len(objective), schedule, accelerator.num_processes, accelerator.process_index)
    prepared.train()
    for step in range(first, schedule.steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(step)
        sums = _gradients(accelerator, prepared, objective, order, schedule, step)
        norm = accelerator.clip_grad_norm_(prepared.parameters(), schedule.clip)
        # An overflow in fp16 is the scaler's business, it skips the step; a loss that is no number is not.
        if not math.isfinite(sums["loss"]) or (schedule.precision != "fp16" and not math.isfinite(float(norm))):
            raise DistillationError(
                f"step {step}: the loss is {sums['loss']:g}, its gradient {float(norm):g}; {store.says_last()}"
            )
        optimiser.step()
        optimiser.zero_grad()
        done = step + 1
        if step % LOG_EVERY == 0 or done == schedule.steps:
            curve.rows.append({"step": done, "rate": schedule.rate_at(step), **sums})
        if done % schedule.save_every == 0 or done == schedule.steps:
            prepared.eval()
            with torch.no_grad():
                figures = objective.held_back(prepared)
            prepared.train()
            curve.rows.append({"step": done, **{f"held_back_{name}": value for name, value in figures.items()}})
            if accelerator.is_main_process:
                store.save(done, model, optimiser, accelerator, curve)
        progress(what, done, schedule.steps)
    model.eval()
    return curve


def _optimiser(model: torch.nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW; biases and norms, which have one dimension, do not decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": schedule.decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=schedule.rate, betas=(0.9, 0.98),
    )  # fmt: skip


def _gradients(
    accelerator: Any, model: torch.nn.Module, objective: Objective, order: _Order, schedule: Schedule, step: int
) -> dict[str, float]:
    """Add up the gradients of one step's batches; the terms of the loss, and "loss", their sum, as means over the batches."""
    sums: dict[str, float] = {}
    for micro in range(schedule.accumulate):
        last = micro + 1 == schedule.accumulate
        with _maybe_no_sync(accelerator, model, last), accelerator.autocast():
            terms = objective.terms(model, order.rows(step, micro), step)
            loss = torch.stack(list(terms.values())).sum()
            accelerator.backward(loss / schedule.accumulate)
        for name, value in {**terms, "loss": loss}.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / schedule.accumulate
    return sums


def process_state(*, cpu: bool = False) -> Any:
    """Which of the processes of `accelerate launch` this is; the only one where there is one.

    Raises:
        MissingExtraError: accelerate is not installed.
    """
    try:
        from accelerate import PartialState
    except ModuleNotFoundError as error:
        raise MissingExtraError("accelerate", "export") from error
    return PartialState(cpu=cpu)


class _Order:
    """Which examples a step sees: each epoch goes through all of them once, in another order."""

    def __init__(self, examples: int, schedule: Schedule, processes: int, process: int) -> None:
        if not examples:
            raise DistillationError("there is nothing to train on")
        self._examples, self._schedule, self._processes, self._process = examples, schedule, processes, process
        self._epochs: dict[int, NDArray[np.intp]] = {}

    def rows(self, step: int, micro: int) -> NDArray[np.intp]:
        s = self._schedule
        first = ((step * s.accumulate + micro) * self._processes + self._process) * s.batch
        return np.array([self._at(position) for position in range(first, first + s.batch)], np.intp)

    def _at(self, position: int) -> int:
        epoch, place = divmod(position, self._examples)
        if epoch not in self._epochs:
            self._epochs = {epoch: np.random.default_rng([self._schedule.seed, epoch]).permutation(self._examples)}
        return int(self._epochs[epoch][place])


class _Checkpoints:
    """Folders `step-N`: weights, optimiser, curve. Written under a temporary name; the last two are kept."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        self.fingerprint = sha256_json(facts)

    def found(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))

    def says_last(self) -> str:
        found = self.found()
        lower = "lower --rate, or train in --precision no"
        if not found:
            return f"there is no checkpoint yet; {lower}"
        return f"the last good checkpoint is {found[-1]}; {lower}"

    def load(self, model: torch.nn.Module, optimiser: Any, accelerator: Any) -> tuple[int, Curve]:
        found = self.found()
        if not found:
            return 0, Curve()
        path = found[-1] / "state.pt"
        # Tensors and plain values only: a checkpoint can't bring code along.
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["fingerprint"] != self.fingerprint:
            raise DistillationError(
                f"{found[-1]} belongs to a run with other data or settings; repeat that command, or delete {self.folder}"
            )
        model.load_state_dict(state["model"], strict=False)
        optimiser.load_state_dict(state["optimiser"])
        if accelerator.scaler is not None and state["scaler"]:
            accelerator.scaler.load_state_dict(state["scaler"])
        return state["step"], Curve(json.loads(state["curve"]))

    def save(self, step: int, model: torch.nn.Module, optimiser: Any, accelerator: Any, curve: Curve) -> None:
        with atomic_folder(self.folder / f"step-{step}", force=True) as partial:
            trained = {name for name, p in model.named_parameters() if p.requires_grad}
            torch.save(
                {
                    "step": step, "fingerprint": self.fingerprint,
                    "model": {name: value for name, value in model.state_dict().items() if name in trained},
                    "optimiser": optimiser.state_dict(),
                    "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else {},
                    "curve": json.dumps(curve.rows),
                },
                partial / "state.pt",
            )  # fmt: skip
        for old in self.found()[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def _maybe_no_sync(accelerator: Any, model: torch.nn.Module, last: bool) -> Any:
    """Devices exchange gradients once a step, with the last of the batches that are added up."""
    return contextlib.nullcontext() if last else accelerator.no_sync(model)


def split_held_back(total: int, seed: int, most: int = 512) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers to train on, and a fiftieth, at most `most`, that never is."""
    order = np.random.default_rng([seed, 7]).permutation(total)
    held = min(most, max(1, total // 50)) if total > 1 else 0
    return np.sort(order[held:]), np.sort(order[:held])
