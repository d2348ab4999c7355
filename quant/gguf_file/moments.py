"""Second moments of what matrices are multiplied with: which inputs go together, and so may make up for each other's errors.

Those of a 4B's layer take half a gigabyte, so that they are gathered in passes over the prompts, each of as many layers as a
budget of memory allows. The first pass can be the one that gathers an importance matrix.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...runtime.device.gguf_header import read_header
from ..rounding.outer_products import OuterProducts
from .inputs import STRIDE, CalibrationRun, evened, input_of

BUDGET = 4 << 30  # bytes of second moments that are gathered in one pass
PROMPTS = 64  # that inputs are gathered on, spread over those given
# Of so many prompts one is left out: by some of its positions it is told whether a matrix's outputs did come nearer.
JUDGED_PROMPT = 8
JUDGED_POSITIONS = 512


@dataclass(frozen=True)
class Inputs:
    """What is known of one matrix's inputs.

    Attributes:
        moments: (columns, columns) float32, the sum over positions of their outer products.
        judged: (N, columns) float32, positions to judge by, of prompts that are not in `moments`.
    """

    moments: NDArray[np.float32]
    judged: NDArray[np.float32]


class Gathering:
    """The inputs of some matrices while prompts run.

    Args:
        columns: {matrix: its columns}.
        prompts: how many will run; of some of them nothing is gathered.
    """

    def __init__(self, columns: Mapping[str, int], prompts: int) -> None:
        self._moments = {name: OuterProducts(count) for name, count in columns.items()}
        self._judged: dict[str, list[NDArray[np.float32]]] = {name: [] for name in columns}
        self.prompts = chosen(prompts)
        self._number: int | None = None
        self._waiting: list[tuple[str, NDArray[np.float32]]] = []

    def begin(self, prompt: int) -> None:
        """Say which prompt runs next, by its number among all."""
        self._number = self.prompts.index(prompt) if prompt in self.prompts else None

    def wants(self, name: str) -> bool:
        """Whether a matrix's inputs are gathered from the prompt that runs."""
        return self._number is not None and name in self._moments

    def add(self, name: str, even: NDArray[np.float32]) -> None:
        """Add inputs of a matrix, (N, columns), as `evened` makes them, where they are wanted."""
        if self.wants(name):
            self._waiting.append((name, even))

    def end(self) -> None:
        """Take in what the prompt gave. Not while it runs: llama.cpp's threads wait busily then, and a product of matrices on
        the same cores takes five times as long."""
        waiting, self._waiting = self._waiting, []
        for name, even in waiting:
            if self._number is not None and self._number % JUDGED_PROMPT:
                self._moments[name].add(even)
            elif (room := JUDGED_POSITIONS - sum(map(len, self._judged[name]))) > 0:
                self._judged[name].append(even[:: -(-len(even) // room)])

    def take(self) -> Iterator[tuple[str, Inputs]]:
        """What was gathered, matrix by matrix; each is let go."""
        for name in list(self._moments):
            yield name, Inputs(self._moments.pop(name).total(), np.concatenate(self._judged.pop(name)))


def chosen(prompts: int) -> list[int]:
    """The numbers of those prompts that inputs are gathered on; none of a single one, which leaves nothing to judge by."""
    return (
        [int(number) for number in np.unique(np.linspace(0, prompts - 1, PROMPTS).astype(int))] if prompts > 1 else []
    )


class Moments:
    """The inputs of a model's matrices on its calibration data.

    Args:
        run: the model and the data.
        folder: an empty one, where what was gathered is kept for the next recipe, while the disk has room for it; None keeps
            nothing.
        budget: bytes of second moments that are gathered in one pass; a smaller one takes more passes over the prompts.
        threads: as in `Engine`.
    """

    def __init__(
        self, run: CalibrationRun, folder: Path | None = None, *, budget: int = BUDGET, threads: int | None = None
    ) -> None:
        self.run, self._folder, self._budget, self._threads = run, folder, budget, threads
        self._kept: dict[str, Path] = {}

    def first(self, prompts: int) -> Gathering:
        """Gather the first layers' inputs while something else runs all prompts; `keep` takes what was found."""
        columns = {
            input_of(name): tensor.shape[0]
            for name, tensor in read_header(self.run.full).tensors.items()
            if re.fullmatch(r"blk\.\d+\.\w+\.weight", name) and len(tensor.shape) == 2
        }
        return Gathering(next(self._passes(columns), {}), prompts)

    def keep(self, gathering: Gathering) -> None:
        """Keep what was gathered."""
        if gathering.prompts:
            for name, inputs in gathering.take():
                self._keep(name, inputs)

    def of(self, columns: Mapping[str, int], told: Callable[[int, int], None]) -> Iterator[tuple[str, Inputs]]:
        """Each matrix with its inputs; nothing where there is a single prompt, of which nothing is learned.

        Args:
            columns: {matrix: its columns}, of matrices that stand for themselves (`input_of`).
            told: called after each prompt, with how many have run in this pass and of how many.
        """
        groups = list(self._passes(columns))
        for name in columns:
            if name in self._kept:
                yield name, self._read(name)
        for group in groups:
            gathering = self._gather(group, told)
            if not gathering.prompts:
                return
            for name, inputs in gathering.take():
                self._keep(name, inputs)
                yield name, inputs

    def _gather(self, columns: Mapping[str, int], told: Callable[[int, int], None]) -> Gathering:
        gathering = Gathering(columns, 0)
        with self.run.engine(
            lambda name, rows: gathering.add(name, evened(rows)), lambda name: gathering.wants(name), self._threads
        ) as engine:
            prompts = self.run.prompts(engine)
            gathering = Gathering(columns, len(prompts))
            for done, number in enumerate(gathering.prompts, 1):
                gathering.begin(number)
                # Without an output a position skips the last layer's last matrices.
                engine.observe_prompt(prompts[number], stride=STRIDE)
                gathering.end()
                told(done, len(gathering.prompts))
        return gathering

    def _passes(self, columns: Mapping[str, int]) -> Iterator[dict[str, int]]:
        """Layer by layer what is not kept: as much at a time as fits the budget, and one matrix's at least."""
        group: dict[str, int] = {}
        held = 0
        for name in sorted(columns, key=lambda one: int(one.split(".")[1])):
            if name in self._kept:
                continue
            size = 4 * columns[name] ** 2
            if group and held + size > self._budget:
                yield group
                group, held = {}, 0
            group[name] = columns[name]
            held += size
        if group:
            yield group

    def _keep(self, name: str, inputs: Inputs) -> None:
        if self._folder is None or name in self._kept:
            return
        size = inputs.moments.nbytes + inputs.judged.nbytes
        if shutil.disk_usage(self._folder).free < 2 * size + self._budget:
            return
        self._kept[name] = self._folder
        for part, values in (("moments", inputs.moments), ("judged", inputs.judged)):
            np.save(self._folder / f"{name}.{part}.npy", values)

    def _read(self, name: str) -> Inputs:
        moments, judged = (self._kept[name] / f"{name}.{part}.npy" for part in ("moments", "judged"))
        return Inputs(np.load(moments, mmap_mode="r"), np.load(judged))
