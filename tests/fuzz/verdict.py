"""What can come of a case, and what a kind of cases is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Verdict(StrEnum):
    """What came of a case."""

    REFUSED = "refused"  # a MedgeError of one sentence
    RIGHT = "right"  # the result of the sound file, or of a change that is as good as the original
    TRACEBACK = "traceback"  # another exception, or a message that is more than a sentence
    ABORT = "abort"  # the process ended
    HANG = "hang"  # more time than any file may take
    MEMORY = "memory"  # more memory than any file may take
    WRONG = "wrong"  # another result, and no word of it


GOOD = frozenset({Verdict.REFUSED, Verdict.RIGHT})


class WrongError(Exception):
    """A changed file was accepted, and what came of it is not what the sound file gives."""


@dataclass(frozen=True)
class Kind:
    """One kind of files.

    Attributes:
        make: a case from a source of randomness and the folder of sound files; the same numbers give the same bytes. A case is a
            file's content, or the changes to a sound file as JSON.
        run: use a case as a user would, in an empty folder. Returns where the result is right; raises what medge raises, or
            `WrongError`.
        suffix: of a case's file.
        modules: imported before the process forks, so that no case pays for it; they start no threads.
        batch: cases that one process takes one after another.
        share: how often its turn comes.
    """

    make: Callable[[random.Random, Path], bytes]
    run: Callable[[bytes, Path, Path], None]
    suffix: str = ".json"
    modules: tuple[str, ...] = ()
    batch: int = 24
    share: int = 1


@dataclass
class Outcome:
    """What came of one case, and how it was told."""

    verdict: Verdict
    detail: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0
    cases: list[str] = field(default_factory=list)  # where one alone does not show it
