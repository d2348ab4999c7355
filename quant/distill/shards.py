"""What a teacher says of a large archive, computed once, in shards that an interruption leaves whole.

A shard is a folder of arrays under the number of its first item, written under a temporary name and renamed when complete.
Going on means computing those that are not there. What shards depend on (teacher, images, sizes) is hashed into a
fingerprint; shards of another one are refused, not mixed in.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles.atomic import atomic_folder, replace_text
from ...runtime.bundles.manifest import sha256_json
from ...runtime.errors import DistillationError, MissingExtraError, one_line, storage_errors
from ...runtime.progress import Progress, no_progress

PLAN = "shards.json"
ATTEMPTS, MOST_ATTEMPTS = ".attempts-", 4  # of Ray's workers at one shard
EngineName = Literal["local", "ray"]


@dataclass(frozen=True)
class Shard:
    """Arrays with one row for each example, and the numbers of the items that gave none (unreadable)."""

    arrays: dict[str, NDArray[Any]]
    skipped: tuple[int, ...] = ()


Worker = Callable[[int, int], Shard]  # items start to stop, to their shard


@dataclass(frozen=True)
class PassPlan:
    """A pass of a teacher over items.

    Attributes:
        folder: where the shards go; with a cluster, a place that all machines see.
        items: how many there are.
        per_shard: items in a shard.
        facts: what the shards depend on, JSON.
    """

    folder: Path
    items: int
    per_shard: int
    facts: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        return sha256_json({**self.facts, "items": self.items, "per_shard": self.per_shard})

    @property
    def starts(self) -> range:
        return range(0, self.items, self.per_shard)

    def place(self, start: int) -> Path:
        return self.folder / f"{start:09d}"

    def missing(self) -> list[int]:
        return [start for start in self.starts if not self.place(start).is_dir()]

    def begin(self) -> None:
        """Make the folder, or check that what lies there belongs to this pass.

        Raises:
            DistillationError: it is of another teacher, other images or other settings.
        """
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / PLAN
            if path.is_file():
                found = json.loads(path.read_text())
                if found.get("fingerprint") != self.fingerprint:
                    raise DistillationError(
                        f"{self.folder} holds a teacher's answers to other inputs or settings; "
                        "give another --work folder, or delete this one"
                    )
                return
            replace_text(path, json.dumps({"fingerprint": self.fingerprint, **self.facts}, indent=1) + "\n")

    def write(self, start: int, shard: Shard) -> None:
        """Put a shard under its name, whole or not at all."""
        with atomic_folder(self.place(start), first_wins=True) as partial:
            for name, array in shard.arrays.items():
                np.save(partial / f"{name}.npy", array)
            (partial / "skipped.json").write_text(json.dumps(list(shard.skipped)))

    def end(self, start: int) -> int:
        return min(start + self.per_shard, self.items)


def run_pass(
    plan: PassPlan, make_worker: Callable[[], Worker], *, engine: EngineName = "local", address: str | None = None,
    workers: int = 1, gpus: float = 0, what: str = "teacher", progress: Progress = no_progress,
) -> ShardSet:  # fmt: skip
    """Compute the shards that are missing, here or by Ray Data.

    Args:
        plan: what to compute.
        make_worker: opens the teacher; called in each worker. For Ray it must be picklable.
        engine: "local" for this process, or "ray".
        address: of a Ray cluster; Ray is started on this machine where None.
        workers, gpus: processes of Ray, and the GPUs of each.
        what: how progress names it.

    Raises:
        DistillationError: shards of another pass lie there, or Ray did not start, can't be reached or gave up.
    """
    plan.begin()
    missing, total = plan.missing(), len(plan.starts)
    progress(what, total - len(missing), total)
    made = computed(plan, make_worker, engine=engine, address=address, workers=workers, gpus=gpus)
    for done, _ in enumerate(made, total - len(missing) + 1):
        progress(what, done, total)
    return ShardSet(plan)


def computed(
    plan: PassPlan, make_worker: Callable[[], Worker], *, engine: EngineName, address: str | None, workers: int, gpus: float
) -> Generator[int, None, None]:  # fmt: skip
    """Compute the shards that are missing of a pass that has begun, and yield the first item of each once it is on the disk.

    By Ray they come in any order. Arguments and errors are those of `run_pass`.
    """
    missing = plan.missing()
    if missing and engine == "ray":
        yield from _by_ray(plan, missing, make_worker, address, workers, gpus)
    elif missing:
        worker = make_worker()
        for start in missing:
            plan.write(start, worker(start, plan.end(start)))
            yield start


class _RayWorker:
    """A worker in a process of Ray's; a shard goes from it to the disk, only its number comes back.

    Ray starts a worker that died (memory, a lost machine) again and gives it its shard again, for ever: a shard that kills
    every worker is given up after some attempts, which are counted on the disk because no process lives to count them.
    """

    def __init__(self, plan: PassPlan, make_worker: Callable[[], Worker]) -> None:
        self._plan = plan
        self._worker = make_worker()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        start = int(row["start"])
        if not self._plan.place(start).is_dir():  # another attempt may have come as far as this before its process died
            attempts = self._plan.folder / f"{ATTEMPTS}{start:09d}"
            with attempts.open("a") as stream:
                stream.write(".")
            if attempts.stat().st_size > MOST_ATTEMPTS:
                end = self._plan.end(start)
                raise DistillationError(
                    f"items {start} to {end - 1} ended {MOST_ATTEMPTS} workers; see Ray's log for how"
                )
            self._plan.write(start, self._worker(start, self._plan.end(start)))
            attempts.unlink(missing_ok=True)
        return {"start": start}


def _knock(address: str) -> None:
    """Connect and hang up: Ray itself tries for minutes where nobody answers.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():  # "auto" is Ray's to find
        socket.create_connection((host, int(port)), timeout=10).close()


def _start_ray(init: Callable[..., object], address: str | None, workers: int) -> None:
    """Connect with a cluster, or start Ray on this machine.

    Args:
        init: `ray.init`. Where a start takes Ray too long, it raises a plain `Exception`.

    Raises:
        DistillationError: Ray can't be reached, or did not start.
    """
    options: dict[str, Any] = {"address": address} if address else {"include_dashboard": False, "num_cpus": workers}
    try:
        if address:
            _knock(address)
        init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:
        reason = one_line(" ".join(str(error).split()).rstrip("."))
        if address:
            raise DistillationError(f"Ray can't be reached at {address}: {reason}") from error
        fewer = f"ask for fewer than {workers} processes (--workers), or " if workers > 1 else ""
        raise DistillationError(
            f"Ray did not start on this machine: {reason}; {fewer}do it without Ray (--engine local)"
        ) from error


def _by_ray(
    plan: PassPlan, missing: list[int], make_worker: Callable[[], Worker], address: str | None, workers: int, gpus: float
) -> Generator[int, None, None]:  # fmt: skip
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingExtraError("ray", "ray") from error
    for old in plan.folder.glob(f"{ATTEMPTS}*"):
        old.unlink(missing_ok=True)
    started = not ray.is_initialized()
    if started:
        _start_ray(ray.init, address, workers)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    rows = ray.data.from_items([{"start": start} for start in missing], override_num_blocks=len(missing))
    try:
        results = rows.map(
            _RayWorker,  # type: ignore[arg-type]  # a class, made once in each process: Ray's annotations know functions only
            fn_constructor_args=(plan, make_worker), compute=ray.data.ActorPoolStrategy(size=workers), num_cpus=1,
            num_gpus=gpus,
        )  # fmt: skip
        for row in results.iter_rows():
            yield int(row["start"])
    except ray.exceptions.RayError as error:
        left = len(plan.missing())
        # Ray wraps a worker's error into its own, with both tracebacks and advice as text.
        said, own = str(error).strip().splitlines(), f"{DistillationError.__module__}.DistillationError: "
        reason = next((line.removeprefix(own) for line in said if line.startswith(own)), said[-1])
        raise DistillationError(
            f"Ray stopped with {left} of {len(plan.starts)} shards to do: {reason}; the same command goes on from there"
        ) from error
    finally:
        if started:
            let_threads_end()
            ray.shutdown()


def let_threads_end(seconds: float = 20.0) -> None:
    """Wait for the threads of Ray Data that still run after an error: one that asks Ray for something after its shutdown makes
    Ray end the whole process, without a word. An iterator's prefetcher, which nothing ends after an error, waits for work that
    no longer comes."""
    until = time.monotonic() + seconds
    for thread in threading.enumerate():
        work = getattr(thread, "_target", None) or type(thread)
        if (getattr(work, "__module__", None) or "").startswith("ray.data.") and thread.name != "Prefetcher":
            thread.join(max(0.0, until - time.monotonic()))


class ShardSet:
    """The finished shards of a pass, read row by row without loading them."""

    def __init__(self, plan: PassPlan) -> None:
        self._plan = plan
        self._places = [plan.place(start) for start in plan.starts]
        self._open: dict[tuple[int, str], NDArray[Any]] = {}
        counts = []
        skipped: list[int] = []
        for place in self._places:
            skipped += json.loads((place / "skipped.json").read_text())
            first = next(iter(sorted(place.glob("*.npy"))), None)
            counts.append(len(np.load(first, mmap_mode="r")) if first is not None else 0)
        self.skipped: tuple[int, ...] = tuple(skipped)
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def rows(self, name: str, numbers: Sequence[int] | NDArray[np.intp]) -> NDArray[Any]:
        """Rows of one array by their numbers over all shards, in that order."""
        wanted = np.asarray(numbers, np.intp)
        shards = np.searchsorted(self._ends, wanted, side="right")
        found: list[Any] = []
        for shard, number in zip(shards.tolist(), wanted.tolist(), strict=True):
            before = int(self._ends[shard - 1]) if shard else 0
            found.append(self._array(shard, name)[number - before])
        return np.stack(found)

    def sample(self, name: str, most: int) -> NDArray[Any]:
        """At most `most` rows of one array, spread evenly over all shards."""
        return self.rows(name, np.linspace(0, len(self) - 1, min(len(self), most)).astype(int))

    def all(self, name: str) -> NDArray[Any]:
        """An array over all shards."""
        parts = [np.asarray(self._array(shard, name)) for shard in range(len(self._places)) if self._count(shard)]
        return np.concatenate(parts)

    def _count(self, shard: int) -> int:
        return int(self._ends[shard] - (self._ends[shard - 1] if shard else 0))

    def _array(self, shard: int, name: str) -> NDArray[Any]:
        key = (shard, name)
        if key not in self._open:
            self._open[key] = np.load(self._places[shard] / f"{name}.npy", mmap_mode="r")
        return self._open[key]
