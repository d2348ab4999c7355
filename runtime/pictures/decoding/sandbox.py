"""What a decoder process may do: compute, and read and write the two pipes that it has.

The limits are the operating system's own (setrlimit). With no descriptor to be had, no file and no socket can be opened, whatever
the decoder does; that holds for every user but root. docs/decisions/0019-decoder-processes.md says what they don't hold back.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from pathlib import Path

from ...processes.limits import MEBIBYTE, limit

if sys.platform != "win32":  # which has no such limits
    import resource

SLACK = 192 * MEBIBYTE  # what a decoder may take beside its input and its pixels
BYTES_A_PIXEL = 24  # WebP decodes to 4 bytes a pixel three times over, JPEG 2000 to 4 bytes a sample
GREATEST = 4096 * MEBIBYTE  # beyond what the process has before its first image; it can't lift this itself


class Sandbox:
    """Limits of this process; entered once, when all is imported and before anything from outside is read."""

    def __init__(self) -> None:
        self._start = _address_space()
        if sys.platform == "win32":
            return
        for name, most in (
            ("RLIMIT_CORE", 0),  # a core file would hold a patient's pixels
            ("RLIMIT_FSIZE", 0),
            ("RLIMIT_NPROC", 0),
            ("RLIMIT_NOFILE", 0),  # those that are open stay open
        ):
            limit(name, most, most)
        limit("RLIMIT_AS", self._start + GREATEST, self._start + GREATEST)

    def allow_memory(self, given: int, pixels: int) -> None:
        """At most what an image of so many bytes and pixels needs, beside what the process had at its start."""
        limit("RLIMIT_AS", self._start + min(GREATEST, SLACK + 4 * given + BYTES_A_PIXEL * pixels))

    def allow_seconds(self, seconds: float) -> None:
        """End the process if it is not called again within so many seconds of processor time (on Windows: of time)."""
        if sys.platform == "win32":
            faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit("RLIMIT_CPU", int(used.ru_utime + used.ru_stime + seconds) + 1)

    def rest(self) -> None:
        """Between two requests: no limit of time."""
        if sys.platform == "win32":
            faulthandler.cancel_dump_traceback_later()


def _address_space() -> int:
    """Bytes of address space in use; half a gibibyte where the system doesn't say."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return 512 * MEBIBYTE
