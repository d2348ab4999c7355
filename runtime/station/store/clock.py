"""The date and time of day, for what people read; how long something takes is asked of `time.monotonic`."""

from __future__ import annotations

import time

# A clock that was never set says 1970 or the year of its maker: what came then has no age.
EARLIEST = 1_767_225_600.0  # 1 January 2026


def now() -> float:
    """Seconds since 1970, by the machine's clock, which may jump."""
    return time.time()
