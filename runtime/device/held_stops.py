"""Ctrl-C while native code calls back into Python: kept until the native code has returned.

An exception that is raised inside a callback of ctypes is printed and dropped: the work would go on without what the callback
was to do, and end as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stops_held() -> Iterator[None]:
    """Hold Ctrl-C and a request to end until the block has ended; what they would have done is done then."""
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread only
        yield
        return
    heard: list[tuple[int, FrameType | None]] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append((number, frame))

    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in STOPS}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if heard:
            handlers[heard[0][0]](*heard[0])
