"""What a kit needs of a machine before any of its own programs can say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..layout import TargetName
from .files import Source

# NumPy's wheels for x86-64 are compiled for x86-64-v2 and end with "illegal instruction" on less; aarch64 always has asimd.
_CPU: dict[str, tuple[str, ...]] = {
    "linux-x86_64": ("sse4_1", "sse4_2", "ssse3", "popcnt", "cx16"),
    "linux-aarch64": ("asimd",),
}
LEAST_MEMORY = 1 << 30  # bytes: the smallest encoder's station takes 0.4 GB; what a bundle takes more, the planner says


@dataclass(frozen=True)
class Needs:
    """What `install.sh` looks for.

    Attributes:
        cpu: features, as /proc/cpuinfo names them.
        memory: bytes.
    """

    cpu: tuple[str, ...]
    memory: int = LEAST_MEMORY


def needs_of(_sources: Sequence[Source], target: TargetName) -> Needs:
    """What a kit's programs need."""
    return Needs(_CPU[target])
