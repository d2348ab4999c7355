"""How many times as long one thing takes as another, where that can be said at all.

On a machine that is busy with something else a ratio of two times can be anything. So both are run in turns, and the ratio of
each turn's two times counts; the time that the processor worked is held beside the time that passed; and where the interval stays
wide, or the two kinds of time say something else, there is no ratio.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDE = 1.25  # times the lower end of an interval, beyond which its upper end says nothing
APART = 1.25  # times one another, beyond which two kinds of time disagree
UNSURE = 0.05  # of all intervals, how many miss the median


@dataclass(frozen=True)
class Took:
    """How long a run took: seconds that passed, and seconds that all threads of its process worked."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Ratio:
    """A ratio of times: the median of all turns, with its 95% interval, which holds whatever their distribution."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def timed(call: Callable[[], object]) -> Took:
    """How long a call takes in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def time_ratio(ours: Sequence[Took], theirs: Sequence[Took]) -> Ratio | None:
    """The ratio of times of two things that were run in turns.

    Args:
        ours, theirs: how long each turn's two runs took.

    Returns:
        None where the turns are too few (fewer than 6), the interval is wide, or the processor's time says something else.
    """
    turns = sorted(mine.wall / other.wall for mine, other in zip(ours, theirs, strict=True))
    rank = _rank(len(turns))
    if not rank:
        return None
    found = Ratio(statistics.median(turns), turns[rank - 1], turns[-rank])
    worked = statistics.median([one.cpu for one in ours]) / max(statistics.median([one.cpu for one in theirs]), 1e-9)
    agree = 1 / APART <= worked / found.value <= APART
    return found if found.high <= WIDE * found.low and agree else None


def _rank(turns: int) -> int:
    """Which of the sorted turns, counted from either end, bounds the interval of their median; 0 where there are too few."""
    rank, below = 0, 0.0
    while rank < turns // 2:
        below += math.comb(turns, rank) / 2**turns
        if below > UNSURE / 2:
            break
        rank += 1
    return rank
