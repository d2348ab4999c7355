"""Time several engines in turn, each in its own process: cold start, latency, throughput and peak memory."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..device.cpu import usable_cores
from ..errors import MedgeError
from ..progress import Progress, no_progress
from .ratio import Ratio, Took, time_ratio

MOST = 5  # times the rounds that were asked for, while a ratio is not sure yet


@dataclass
class Measured:
    """Of one engine, in seconds and bytes.

    Attributes:
        name: the engine.
        cold_start: from starting the process until it could take an image (imports, hashes, weights).
        first_result: from starting the process until the first image's result.
        took: how long every further run took.
        peak_bytes: greatest resident memory.
        batch: images in a run.
    """

    name: str
    batch: int
    cold_start: float = 0.0
    first_result: float = 0.0
    took: list[Took] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def runs(self) -> list[float]:
        """Seconds that passed in each run."""
        return [one.wall for one in self.took]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def facts(self) -> dict[str, Any]:
        ordered = sorted(self.runs)
        return {
            "engine": self.name, "batch": self.batch, "cold_start_seconds": self.cold_start,
            "first_result_seconds": self.first_result, "latency_seconds_median": self.median,
            "latency_seconds_p90": ordered[int(0.9 * (len(ordered) - 1))],
            "cpu_seconds_median": statistics.median(one.cpu for one in self.took), "rounds": len(self.took),
            "images_per_second": self.batch / self.median, "peak_bytes": self.peak_bytes,
        }  # fmt: skip

    def ratio_to(self, other: Measured) -> Ratio | None:
        """How many times as long a run takes as the other's; None where that can't be said."""
        return time_ratio(self.took, other.took)

    def facts_beside(self, first: Measured) -> dict[str, Any]:
        """`facts`, with the threads of every engine and the ratio of times to the first's, None where it can't be said."""
        ratio = self.ratio_to(first) if self is not first else None
        return {**self.facts(), "threads": usable_cores(), "time_ratio": asdict(ratio) if ratio else None}

    def told_beside(self, first: Measured) -> str:
        """The ratio of times to the first's for a table, with its interval; "not sure" where it can't be said."""
        return "1" if self is first else str(self.ratio_to(first) or "not sure")


class _Worker:
    def __init__(self, name: str, command: Sequence[str], batch: int) -> None:
        self.result = Measured(name, batch)
        self._start = time.perf_counter()
        self._process = subprocess.Popen(list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read("ready")
        self.result.cold_start = time.perf_counter() - self._start

    def _read(self, key: str) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # libraries print their own lines
                facts = json.loads(line)
                if isinstance(facts, dict) and key in facts:
                    return facts[key]
        raise MedgeError(
            f"the benchmark of {self.result.name} ended early (exit code {self._process.wait()}); see above"
        )

    def run(self) -> Took:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Took(*map(float, self._read("seconds")))

    def first(self) -> None:
        self.run()
        self.result.first_result = time.perf_counter() - self._start

    def finish(self) -> Measured:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self.result.peak_bytes = int(self._read("peak_bytes"))
        self._process.wait()
        return self.result

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def compare(
    engines: Mapping[str, Sequence[str]], *, rounds: int, batch: int = 1,
    progress: Progress = no_progress,
) -> list[Measured]:  # fmt: skip
    """Start each engine's worker, then run them round by round in turn, so that a busy machine is busy for all.

    There are more rounds than asked for while a ratio to the first engine's time is not sure, up to `MOST` times as many.

    Args:
        engines: name -> command line of a worker (see `bench_worker`).
        rounds: timed runs of each, after one that warms up; at least.
        batch: images in a run, as the commands were told.
    """
    workers: list[_Worker] = []
    try:
        for name, command in engines.items():  # one after the other: a cold start must have the machine to itself
            workers.append(_Worker(name, command, batch))
            workers[-1].first()
        for number in range(MOST * rounds):
            for worker in workers:
                worker.result.took.append(worker.run())
            progress("rounds", number + 1, max(rounds, number + 1))
            first, *others = (worker.result for worker in workers)
            if number + 1 >= rounds and all(other.ratio_to(first) for other in others):
                break
        return [worker.finish() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()


def bundle_command(bundle: str, batch: int = 1, *, fast: bool = False) -> list[str]:
    """The worker of a bundle."""
    command = [sys.executable, "-m", "medge.runtime.bench.worker", bundle, str(batch)]
    return [*command, "fast"] if fast else command
