"""Limits of this process, as far as its system has them."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

if sys.platform != "win32":  # which has no such limits
    import resource

MEBIBYTE = 1 << 20


def limit(name: str, most: int, hard: int | None = None) -> None:
    """Set a limit as far as the system has it and allows it: macOS has no limit on memory that holds.

    Args:
        name: as in Python's `resource`: "RLIMIT_CORE".
        most: the limit.
        hard: what this process can't raise it beyond; left as it is where None.
    """
    if sys.platform == "win32":
        return
    which = getattr(resource, name, None)
    if which is None:
        return
    ceiling = resource.getrlimit(which)[1]
    highest = ceiling if hard is None else hard
    if ceiling != resource.RLIM_INFINITY and (highest == resource.RLIM_INFINITY or highest > ceiling):
        highest = ceiling
    if highest != resource.RLIM_INFINITY:
        most = min(most, highest)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(which, (most, highest))


def data_in_use() -> int | None:
    """Bytes that RLIMIT_DATA counts: memory of this process without files that are mapped; None where the system doesn't say."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmData:")).split()[1]) * 1024
    return None


def go_first() -> None:
    """Be what Linux ends where the machine's memory runs out, before the process that started this one."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
