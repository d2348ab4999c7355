"""An importance matrix: how strongly each input channel of each weight matrix is driven, on real texts and images.

llama.cpp's quantizer weighs a weight's rounding error with the mean square of what it is multiplied with. The squares
are gathered while llama.cpp itself runs the full-precision file (`inputs`), and every position counts the same, where
llama.cpp's own tool adds plain squares. The result is written in llama.cpp's imatrix format (GGUF; tools/imatrix in
llama.cpp), which its tools read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles.atomic import atomic_file
from ...runtime.device.gguf_header import read_header
from ...runtime.errors import CheckpointError, StorageError
from ...runtime.generator.engine import BATCH
from ...runtime.generator.prompt import Item, Picture
from ...runtime.progress import Progress, no_progress
from .inputs import STRIDE, CalibrationRun, evened, input_of
from .moments import Gathering, Moments

SAVE_EVERY = 16  # chunks

FINGERPRINT = "medge.calibration"


@dataclass
class Importance:
    """Sums of squares of each matrix's inputs, every input scaled to a mean square of one.

    Attributes:
        sums: matrix name -> (columns,) float64.
        counts: matrix name -> rows seen.
        chunks: prompts that went in.
        fingerprint: of the model and the data, so that an interrupted run goes on with the same.
        sources: names of the data sets, never paths.
    """

    sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    chunks: int = 0
    fingerprint: str = ""
    sources: tuple[str, ...] = ()

    def add(self, name: str, rows: NDArray[np.float32]) -> None:
        """Add inputs, (N, columns), of a matrix, as `evened` makes them."""
        squares = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
        self.sums[name] = self.sums[name] + squares if name in self.sums else squares
        self.counts[name] = self.counts.get(name, 0) + len(rows)

    def share(self, model: Path) -> None:
        """Give a model's matrices what was gathered for others that have the same inputs."""
        for name in read_header(model).tensors:
            stands = input_of(name)
            if stands != name and stands in self.sums:
                self.sums[name], self.counts[name] = self.sums[stands], self.counts[stands]

    def mean(self, name: str) -> NDArray[np.float32]:
        """Mean square of each column, (columns,)."""
        return (self.sums[name] / max(self.counts[name], 1)).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write llama.cpp's format."""
        with atomic_file(path) as partial:
            writer = gguf.GGUFWriter(partial, "")
            writer.add_type("imatrix")
            writer.add_array("imatrix.datasets", list(self.sources) or ["medge"])
            writer.add_uint32("imatrix.chunk_count", self.chunks)
            writer.add_uint32("imatrix.chunk_size", BATCH)
            writer.add_string(FINGERPRINT, self.fingerprint)
            for name in sorted(self.sums):
                writer.add_tensor(f"{name}.in_sum2", self.sums[name].astype(np.float32)[None])
                writer.add_tensor(f"{name}.counts", np.array([[self.counts[name]]], np.float32))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()

    @classmethod
    def load(cls, path: Path) -> Importance:
        """Read a matrix that medge or llama.cpp wrote.

        Raises:
            CheckpointError: it is none.
        """
        header = read_header(path)
        if header.metadata.get("general.type") != "imatrix":
            raise CheckpointError(f"{path} is no importance matrix; make one with 'medge calibrate'")
        found = cls(chunks=int(header.metadata.get("imatrix.chunk_count", 0)))
        found.fingerprint = str(header.metadata.get(FINGERPRINT, ""))
        for name, tensor in header.tensors.items():
            values = np.fromfile(path, np.float32, tensor.values, offset=tensor.offset)
            if name.endswith(".in_sum2"):
                found.sums[name.removesuffix(".in_sum2")] = values.astype(np.float64)
            elif name.endswith(".counts"):
                found.counts[name.removesuffix(".counts")] = int(values[0])
        return found


def gather(
    run: CalibrationRun, *, identity: str = "", out: Path | None = None, force: bool = False, sources: Sequence[str] = (),
    moments: Moments | None = None, threads: int | None = None, progress: Progress = no_progress,
) -> Importance:  # fmt: skip
    """Run prompts through a full-precision model and gather its importance matrix.

    Args:
        run: the model and the prompts.
        identity: of the model, such as its files' hashes.
        out: where to keep the state; a run that was interrupted goes on from there when model and data are the same.
        force: replace a matrix of another model, or of other data, that stands there.
        sources: names for the file.
        moments: of the same run; keeps what the first layers' matrices are given, which then needs no pass of its own. Not with
            `out`: what is left of an interrupted run would not be all.
        threads: as in `Engine`.
        progress: called as work advances.

    Raises:
        StorageError: another matrix stands at `out`, and `force` is false.
    """
    assert moments is None or out is None
    importance = Importance()
    gathering: Gathering | None = None

    def add(name: str, rows: NDArray[np.float32]) -> None:
        even = evened(rows)
        importance.add(name, even)
        if gathering is not None:
            gathering.add(name, even)

    with run.engine(add, lambda name: input_of(name) == name, threads) as engine:
        work = run.prompts(engine)
        fingerprint = _fingerprint(identity, work)
        if out is not None and out.is_file() and not force:
            importance = Importance.load(out)
            if importance.fingerprint != fingerprint:
                raise StorageError(f"{out} exists, gathered for another model or on other data; --force replaces it")
        importance.fingerprint, importance.sources = fingerprint, tuple(sources)
        gathering = None if moments is None else moments.first(len(work))
        for number in range(importance.chunks, len(work)):
            if gathering is not None:
                gathering.begin(number)
            # Logits of every fourth token: the tied embedding's own inputs, for a quarter of the time they cost.
            engine.observe_prompt(work[number], stride=STRIDE)
            if gathering is not None:
                gathering.end()
            importance.chunks = number + 1
            if out is not None and importance.chunks % SAVE_EVERY == 0:
                importance.share(run.full)
                importance.save(out)
            progress("calibrating", importance.chunks, len(work))
    importance.share(run.full)
    if out is not None:
        importance.save(out)
    if moments is not None and gathering is not None:
        moments.keep(gathering)
    return importance


def _fingerprint(identity: str, prompts: Sequence[Sequence[Item]]) -> str:
    digest = hashlib.sha256(identity.encode())
    for prompt in prompts:
        digest.update(repr([item.key if isinstance(item, Picture) else item for item in prompt]).encode())
    return digest.hexdigest()
