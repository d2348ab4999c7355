"""Where prompts are cut."""

from __future__ import annotations

import numpy as np
import pytest

from medge.runtime.generator.prompt import STEP, Item, Picture, cuts

FILM = Picture.of(np.zeros((8, 8, 3), np.uint8), 4)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], []),
        ([1], [1]),
        ([1] * 5, [3, 5]),
        ([1] * 6, [3, 6]),
        ([FILM], [1]),
        ([1, FILM, 2, 3, 4, 5], [1, 2, 5, 6]),
        ([FILM, FILM, 1], [1, 2, 3]),
        ([1, 1, 1, FILM, 1], [3, 4, 5]),
    ],
)
def test_cuts(items: list[Item], expected: list[int]) -> None:
    assert cuts(items, 3) == expected


def test_a_beginning_that_two_prompts_share_is_cut_alike() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        shared: list[Item] = [FILM if one < 0.02 else 7 for one in rng.random(rng.integers(1, 400))]
        found = [set(cuts([*shared, *rest])) for rest in ([1], [1] * 300, [FILM, 1])]
        # Right at the end of what is shared, an image makes a cut that text does not.
        inside = [{place for place in one if place < len(shared)} for one in found]
        assert inside[0] == inside[1] == inside[2]
        assert max(np.diff([0, *sorted(inside[0])]), default=0) <= STEP
