"""What a measurement has computed, kept as it comes: one that was stopped goes on where it was.

Outputs are lines of a hidden file, each under a hash of what it is of, so that the file shows neither images nor texts. A
line that a killed process left half written counts as not there. When the measurement is done, the file goes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles.atomic import refuse_special
from ...runtime.bundles.claim import claimed
from ...runtime.errors import storage_errors
from ...runtime.progress import Progress, no_progress

Array = NDArray[np.float32]
Row = Mapping[str, Any]  # of an image or a prompt, for the user's file of rows
TellRow = Callable[[Row], None]


def no_row(row: Row, /) -> None:
    """Say nothing: where nobody asked for rows."""


class KeptOutputs:
    """Outputs by what they are of.

    Args:
        stream: where new ones are written; None where nothing is kept.
        known: {key: value} of an earlier run.
    """

    def __init__(self, stream: BinaryIO | None = None, known: dict[str, Any] | None = None) -> None:
        self._stream, self._known = stream, known if known is not None else {}

    def value(self, of: Sequence[object], compute: Callable[[], Any]) -> Any:
        """A value that JSON can hold, exactly.

        Args:
            of: what it is of, as texts and numbers.
            compute: makes it, where no earlier run has.

        Raises:
            StorageError: the file system refused.
        """
        if self._stream is None:
            return compute()
        key = hashlib.sha256(repr(of).encode()).hexdigest()
        if key not in self._known:
            self._add({key: compute()})
        return self._known[key]

    def rows(self, side: str, inputs: Sequence[bytes], compute: Callable[[], Array]) -> Array:
        """Outputs of a batch, (N, D) float32.

        Args:
            side: what computes them.
            inputs: what each row is of.
            compute: makes all N rows. Where one is not known all are made anew, since what goes through together may round
                together.

        Raises:
            StorageError: the file system refused.
        """
        if self._stream is None:
            return compute()
        keys = [hashlib.sha256(side.encode() + b"\0" + one).hexdigest() for one in inputs]
        if not all(key in self._known for key in keys):
            self._add(dict(zip(keys, map(_text_of, compute()), strict=True)))
        return np.stack([np.frombuffer(base64.b64decode(self._known[key]), "<f4") for key in keys])

    def _add(self, found: dict[str, Any]) -> None:
        assert self._stream is not None
        self._known |= found
        with storage_errors(Path(self._stream.name)):
            self._stream.write("".join(json.dumps([key, value]) + "\n" for key, value in found.items()).encode())
            self._stream.flush()


@dataclass(frozen=True)
class Course:
    """How a measurement is followed, and gone on with after it was stopped.

    Attributes:
        progress: called as work advances.
        outputs: what was computed before; what is computed now is added.
        row: told of each image or prompt as it is done.
        side: a name for the artefact that is measured, among those of its bundle.
    """

    progress: Progress = no_progress
    outputs: KeptOutputs = field(default_factory=KeptOutputs)
    row: TellRow = no_row
    side: str = "bundle"


NOT_FOLLOWED = Course()


@contextlib.contextmanager
def kept_outputs(place: Path, made_with: object) -> Iterator[KeptOutputs]:
    """Outputs in a hidden file beside a place, as long as the block has not come to its end.

    Args:
        place: what the measurement is written to.
        made_with: what decides the outputs. What another question has left there is begun anew.

    Raises:
        PlaceTakenError: another process measures for the same place.
        StorageError: the file system refused.
    """
    place = place.absolute()
    path = place.with_name(f".{place.name}.measured")
    refuse_special(path)
    head = (hashlib.sha256(repr(made_with).encode()).hexdigest() + "\n").encode()
    with claimed(path):
        with storage_errors(path):
            known, size = _read(path, head)
            stream = path.open("r+b" if size else "wb")
        try:
            with storage_errors(path):
                stream.truncate(size)
                stream.seek(size)
                if not size:
                    stream.write(head)
                    stream.flush()
            yield KeptOutputs(stream, known)
        except BaseException:
            with contextlib.suppress(OSError):  # what a full disk did not take would be tried again
                stream.close()
            raise
        stream.close()
        path.unlink()


def _read(path: Path, head: bytes) -> tuple[dict[str, Any], int]:
    """What a file of the same question holds, and its bytes without a last line that was cut off."""
    known: dict[str, Any] = {}
    if not path.is_file():
        return known, 0
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if not whole.startswith(head):
        return known, 0
    try:
        for line in whole[len(head) :].splitlines():
            key, value = json.loads(line)
            known[key] = value
    except ValueError:  # damaged: what it says of the rest can't be believed either
        return {}, 0
    return known, len(whole)


def _text_of(row: Array) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def versions() -> list[str]:
    """Of what computes outputs: those of another version are others."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("medge", "torch", "transformers", "onnxruntime", "coremltools", "llama-cpp-python"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found
