"""The date and time of day, for what people read; how long something takes is asked of `time.monotonic`."""

from __future__ import annotations

import time


def now() -> float:
    """Seconds since 1970, by the machine's clock, which may jump."""
    return time.time()
