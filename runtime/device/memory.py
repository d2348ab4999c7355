"""How much memory this process has taken at most."""

from __future__ import annotations

import contextlib
import gc
import sys
from pathlib import Path


def peak_memory() -> int:
    """Greatest resident memory of this process, in bytes, since it began or since `forget_peak`.

    On Linux from VmHWM: getrusage's figure survives exec, so a child would report what its parent once used.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> bool:
    """Begin `peak_memory` anew, from what the process has now; False where only Linux could and this is not it."""
    gc.collect()  # a model that nobody holds any more
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM to the resident size
        return True
    return False
