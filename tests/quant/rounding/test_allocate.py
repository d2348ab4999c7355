"""Bytes are shared out where they lower the expected error most."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medge.quant.rounding.allocate import Choice, allocate
from medge.runtime.errors import RecipeError


def forms(*facts: tuple[int, float]) -> list[Choice[int]]:
    return [Choice(number, size, error) for number, (size, error) in enumerate(facts)]


def test_a_form_that_gains_little_is_stepped_over() -> None:
    """The second form saves nothing for its bytes; what comes after it does."""
    parts = {"a": forms((10, 8.0), (20, 7.9), (30, 1.0)), "b": forms((10, 2.0), (30, 1.0))}
    chosen = allocate(parts, 40)
    assert {name: choice.value for name, choice in chosen.items()} == {"a": 2, "b": 0}


def test_it_ends_near_the_best() -> None:
    draw = np.random.default_rng(2)
    for _ in range(20):
        parts = {
            str(part): forms(*((10 * (step + 1), weight * 4.0**-step) for step in range(4)))
            for part, weight in enumerate(draw.uniform(0.1, 10, 5))
        }
        for budget in (60, 100, 150):
            chosen = allocate(parts, budget)
            assert sum(choice.bytes for choice in chosen.values()) <= budget
            best = min(
                sum(one.error for one in some)
                for some in itertools.product(*parts.values())
                if sum(one.bytes for one in some) <= budget
            )
            assert sum(choice.error for choice in chosen.values()) == pytest.approx(best)


def test_too_small_a_size_is_refused() -> None:
    with pytest.raises(RecipeError, match="too small a size: in the coarsest form it takes 25"):
        allocate({"a": forms((20, 1.0))}, 24, fixed=5)
