"""Share out bytes: give each part a finer form where a byte buys the largest drop in expected error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ...runtime.errors import RecipeError

Form = TypeVar("Form")


@dataclass(frozen=True)
class Choice(Generic[Form]):
    """One form that a part can take: the form, its bytes, and the error that it is expected to cause."""

    value: Form
    bytes: int
    error: float


def allocate(parts: Mapping[str, Sequence[Choice[Form]]], budget: float, fixed: int = 0) -> dict[str, Choice[Form]]:
    """The choice of each part, from coarse to fine, so that all take at most `budget` bytes, `fixed` others included.

    Greedy: of all finer forms of all parts the one is taken that lowers the error most for each byte, so that gains fall from
    step to step and it ends near the best. A form that is worse than a mixture of its neighbours is stepped over.

    Raises:
        RecipeError: the coarsest forms take more.
    """
    steps = dict.fromkeys(parts, 0)
    size = fixed + sum(options[0].bytes for options in parts.values())
    if size > budget:
        raise RecipeError(f"{budget:,.0f} bytes are too small a size: in the coarsest form it takes {size:,}")
    while True:
        best, best_gain = None, 0.0
        for name, options in parts.items():
            now = options[steps[name]]
            for step in range(steps[name] + 1, len(options)):
                then = options[step]
                gain = (now.error - then.error) / max(then.bytes - now.bytes, 1)
                if size + then.bytes - now.bytes <= budget and gain > best_gain:
                    best, best_gain = (name, step), gain
        if best is None:
            return {name: options[steps[name]] for name, options in parts.items()}
        name, step = best
        size += parts[name][step].bytes - parts[name][steps[name]].bytes
        steps[name] = step
