"""What a benchmark is asked for, and what it answers, whatever the kind of bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Asked:
    """How a bundle is timed.

    Attributes:
        rounds: timed runs of each engine.
        batch: images in a run.
        against: {other engine: command line of its worker, without the profile that it ends with}.
    """

    rounds: int
    batch: int = 1
    against: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Benched:
    """What was measured: `facts` of each engine as JSON, `table` for the terminal."""

    facts: Sequence[Mapping[str, Any]]
    table: Table
