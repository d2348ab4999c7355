"""Weights that stay in their file because memory does not hold them: what that costs.

The numbers are those of benchmarks/from_storage.py (docs/results/from-storage.md). The Android app's `Storage.kt` has the same.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

PROBED = 256 << 20  # bytes
# Of weights that have room for a share of themselves, how often each byte is read again for a token: (share, times). Of each
# share the most is taken that it or a greater one needed: more room is never more to read.
READ_AGAIN = ((1.0, 0.0), (0.95, 0.37), (0.9, 0.97), (0.4, 0.97), (0.25, 1.01), (0.1, 1.57))
LEAST_SHARE = 0.1  # less was not measured
SLOWER = 1.3  # reading in between against reading a file from beginning to end


def forget(path: Path) -> None:
    """Let Linux drop what it keeps of a file in memory; other systems can't be told to."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # what is not written yet is not dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def storage_speed(path: Path, most: int = PROBED, clock: Callable[[], float] = time.perf_counter) -> float | None:
    """Bytes a second of reading a file's beginning from storage; None where it would come from memory, or is empty."""
    if not hasattr(os, "posix_fadvise"):
        return None
    forget(path)
    began, done = clock(), 0
    with path.open("rb", buffering=0) as file:
        while done < most and (part := len(file.read(1 << 20))):
            done += part
    return done / (clock() - began) if done else None


def read_again(share: float) -> float:
    """How often each byte of the weights is read again for a token, where a share of them has room in memory.

    A token needs all of them in their order, and a system that drops what was used longest ago drops each just before it is
    needed again: a little too little room is nearly as bad as much too little. Between the measured shares a straight line.
    """
    if share >= READ_AGAIN[0][0]:
        return 0.0
    for (high, less), (low, more) in itertools.pairwise(READ_AGAIN):
        if share >= low:
            return less + (more - less) * (high - share) / (high - low)
    return READ_AGAIN[-1][1]
