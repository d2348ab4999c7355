"""A prompt: tokens and images, and where it is cut into the steps that it is evaluated in.

llama.cpp's kernels round by the number of tokens that go through together. So that the same question gives the same tokens
whatever was asked before, a prompt is cut at the same places whether or not its beginning is evaluated already, and what is
evaluated is kept up to such a place only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Tokens of text. Fewer are slower to evaluate, for the weights are read once a step; of more, more are evaluated again when a
# prompt begins as the last one did.
STEP = 128


@dataclass(frozen=True)
class Picture:
    """An image in a prompt, already of the model's size: (side, side, 3) uint8."""

    pixels: NDArray[np.uint8] = field(repr=False, compare=False)
    key: str
    tokens: int

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], tokens: int) -> Picture:
        return cls(np.ascontiguousarray(pixels), hashlib.sha256(pixels.tobytes()).hexdigest(), tokens)


Item = int | Picture  # a token id or an image; a prompt is a list of them


def length(items: Sequence[Item]) -> int:
    """Positions that a prompt takes in the context."""
    return sum(item.tokens if isinstance(item, Picture) else 1 for item in items)


def cuts(items: Sequence[Item], step: int = STEP) -> list[int]:
    """The items before which a step begins, without the first, and the end.

    An image is a step of its own. Text is cut each `step` tokens from the last image, or the beginning, on: so a place depends
    on what stands before it, and, right before an image, on that.

    Args:
        items: tokens and images.
        step: most tokens of a step.
    """
    found: list[int] = []
    since = 0  # the last cut
    for place in range(1, len(items)):
        beside_image = isinstance(items[place], Picture) or isinstance(items[place - 1], Picture)
        if beside_image or place - since == step:
            found.append(place)
            since = place
    return [*found, len(items)] if items else []
