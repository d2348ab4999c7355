"""The most memory that a process has taken."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from medge.runtime.device.memory import forget_peak, peak_memory

LARGE = 64 << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can forget a peak")
def test_a_peak_stays_until_it_is_forgotten() -> None:
    assert forget_peak()
    before = peak_memory()
    np.ones(LARGE, np.uint8)
    assert peak_memory() - before > LARGE * 0.9
    assert forget_peak()
    assert peak_memory() - before < LARGE / 2
