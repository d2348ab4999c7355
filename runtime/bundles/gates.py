"""What a figure of a parity report is held against. The bounds stand with the recipes, in `quant/recipes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Gate:
    """`figure` must be `<=` or `>=` `bound`; the figure is named by its path in the report, `vision.centred_cosine.min`."""

    figure: str
    sense: Literal["<=", ">="]
    bound: float

    def passes(self, value: float) -> bool:
        return value <= self.bound if self.sense == "<=" else value >= self.bound

    def looser(self, other: Gate) -> Gate:
        """Whichever of two gates on the same figure allows more."""
        return self if self.passes(other.bound) else other
