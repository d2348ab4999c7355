"""How the processes of one test run share the machine."""

from __future__ import annotations

import os


def share_cores() -> None:
    """Give each of pytest-xdist's processes its own cores.

    Engines that each take all cores wait for one another most of the time: their threads spin until all have done their part.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker or not hasattr(os, "sched_setaffinity"):
        return
    count, number = int(os.environ["PYTEST_XDIST_WORKER_COUNT"]), int(worker.removeprefix("gw"))
    cores = sorted(os.sched_getaffinity(0))
    if mine := cores[number::count]:
        from threadpoolctl import threadpool_limits

        os.sched_setaffinity(0, mine)
        threadpool_limits(len(mine))  # a plugin of pytest's has loaded numpy, whose threads were counted before
