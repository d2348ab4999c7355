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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.console.line_file import LineFile
from ...runtime.progress import Progress, no_progress

Array = NDArray[np.float32]
Row = Mapping[str, Any]  # of an image or a prompt, for the user's file of rows
TellRow = Callable[[Row], None]


def no_row(row: Row, /) -> None:
    """Say nothing: where nobody asked for rows."""


class KeptOutputs:
    """Outputs by what they are of.

    Args:
        lines: where new ones are written; None where nothing is kept.
        known: {key: value} of an earlier run.
    """

    def __init__(self, lines: LineFile | None = None, known: dict[str, Any] | None = None) -> None:
        self._lines, self._known = lines, known if known is not None else {}

    def value(self, of: Sequence[object], compute: Callable[[], Any]) -> Any:
        """A value that JSON can hold, exactly.

        Args:
            of: what it is of, as texts and numbers.
            compute: makes it, where no earlier run has.

        Raises:
            StorageError: the file system refused.
        """
        if self._lines is None:
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
        if self._lines is None:
            return compute()
        keys = [hashlib.sha256(side.encode() + b"\0" + one).hexdigest() for one in inputs]
        if not all(key in self._known for key in keys):
            self._add(dict(zip(keys, map(_text_of, compute()), strict=True)))
        return np.stack([np.frombuffer(base64.b64decode(self._known[key]), "<f4") for key in keys])

    def _add(self, found: dict[str, Any]) -> None:
        assert self._lines is not None
        self._known |= found
        self._lines.add("".join(json.dumps([key, value]) + "\n" for key, value in found.items()).encode())


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
    head = (hashlib.sha256(repr(made_with).encode()).hexdigest() + "\n").encode()
    known: dict[str, Any] = {}

    def take_up(lines: bytes, cut_off: bytes) -> bool:
        if not lines.startswith(head):
            return False
        try:
            known.update(json.loads(line) for line in lines[len(head) :].splitlines())
        except (ValueError, TypeError):  # damaged: what it says of the rest can't be believed either
            known.clear()
            return False
        return True

    with LineFile(place.with_name(f".{place.name}.measured"), head, take_up, passing=True) as lines:
        yield KeptOutputs(lines, known)


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
