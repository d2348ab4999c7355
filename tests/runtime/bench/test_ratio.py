"""When a ratio of times is said, and when none is."""

from __future__ import annotations

import numpy as np
import pytest

from medge.runtime.bench.in_turns import MOST, Measured
from medge.runtime.bench.ratio import Took, time_ratio, timed


def turns(count: int, wall: float, cpu: float, noise: float, seed: int) -> list[Took]:
    factors = np.random.default_rng(seed).uniform(1 - noise, 1 + noise, count)
    return [Took(wall * float(factor), cpu * float(factor)) for factor in factors]


def test_a_ratio_with_its_interval() -> None:
    found = time_ratio(turns(12, 0.5, 1.0, 0.02, 0), turns(12, 1.0, 2.0, 0.02, 1))
    assert found is not None
    assert found.low < 0.5 < found.high
    assert found.low < found.value < found.high < 1.1 * found.low
    assert str(found) == f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (turns(5, 0.5, 1.0, 0.0, 0), turns(5, 1.0, 2.0, 0.0, 1)),  # five turns hold their median with 94% only
        (turns(12, 0.5, 1.0, 0.4, 0), turns(12, 1.0, 2.0, 0.4, 1)),  # a busy machine
        # PyTorch's two threads waited for each other: 42 times as long, of which the processor worked a twentieth.
        (turns(12, 0.5, 1.0, 0.02, 0), turns(12, 21.0, 2.0, 0.02, 1)),
    ],
)
def test_no_ratio_where_none_can_be_said(ours: list[Took], theirs: list[Took]) -> None:
    assert time_ratio(ours, theirs) is None


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        ours = [Took(float(wall), 1.0) for wall in draw.lognormal(0, 0.05, 14)]
        found = time_ratio(ours, [Took(1.0, 1.0)] * 14)
        held += found is not None and found.low <= 1 <= found.high
    assert held >= 0.94 * 400


def test_what_a_call_takes() -> None:
    took = timed(lambda: sum(range(200_000)))
    assert took.wall > 0
    assert took.cpu > 0


def test_facts_hold_both_times() -> None:
    facts = Measured("medge", 2, took=turns(9, 0.5, 1.0, 0.0, 0)).facts()
    assert (facts["latency_seconds_median"], facts["cpu_seconds_median"], facts["rounds"]) == (0.5, 1.0, 9)
    assert facts["images_per_second"] == 4
    assert MOST > 1
