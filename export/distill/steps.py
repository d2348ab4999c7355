"""The steps that both distillations share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from ...quant.distill.shards import PassPlan, ShardSet, Worker, run_pass
from ...quant.distill.train import Schedule, process_state
from ...runtime.bundles.claim import claimed
from ...runtime.progress import Progress
from ..pages.distillation import Distillation, render_distillation
from ..source.student_files import FACTS
from .job import PassOptions, TrainOptions


def teacher_pass(
    plan: PassPlan, make_worker: Callable[[], Worker], options: PassOptions, state: Any, what: str, progress: Progress
) -> ShardSet:
    """Let the teacher go over its inputs once, by whichever engine; of several processes the first does it for all.

    Args:
        state: of `quant.distill.train.process_state`.
        what: how progress names it.
    """
    gpus = 1 if options.engine == "ray" and torch.cuda.is_available() else 0
    with state.main_process_first():
        return run_pass(
            plan, make_worker, engine=options.engine, address=options.address, workers=options.workers, gpus=gpus, what=what,
            progress=progress,
        )  # fmt: skip


@contextlib.contextmanager
def one_run(out: Path, options: TrainOptions) -> Iterator[None]:
    """Be the only run that makes a student at `out`; of several processes of one run the first sees to it.

    Raises:
        StorageError: another run is making one there.
    """
    with claimed(out) if process_state(cpu=options.cpu).is_main_process else contextlib.nullcontext():
        yield


def schedule_of(options: TrainOptions, *, decay: float = Schedule.decay) -> Schedule:
    return Schedule(
        options.steps, options.batch, options.accumulate, options.rate, decay, options.precision, seed=options.seed,
        save_every=options.save_every,
    )  # fmt: skip


def write_result(folder: Path, result: Distillation) -> None:
    """Put what came of a run beside the student."""
    (folder / FACTS).write_text(result.to_json())
    (folder / "distillation.html").write_text(render_distillation(result), encoding="utf-8")
