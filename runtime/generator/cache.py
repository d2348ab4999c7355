"""How exactly a language model remembers: the types of its key-value cache.

The keys and values of every position stay in memory. In fewer bits they take less of it, or a longer context fits; what that
costs in quality is in docs/results/cache.md. A bundle's parity is measured with 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import RecipeError

CacheName = Literal["f16", "q8_0", "q4_0"]
CACHE_NAMES: tuple[CacheName, ...] = get_args(CacheName)


@dataclass(frozen=True)
class Stored:
    """One of ggml's types.

    Attributes:
        number: ggml's for it.
        bits: that a number takes, its share of the block's scale included.
        block: numbers that share a scale.
    """

    number: int
    bits: float
    block: int


F16, Q8_0, Q4_0 = Stored(1, 16, 1), Stored(8, 8.5, 32), Stored(2, 4.5, 32)


@dataclass(frozen=True)
class CacheTypes:
    """What keys and values are kept in. Keys bear fewer bits badly: they choose where a model looks."""

    keys: Stored
    values: Stored

    def bytes(self, numbers: int) -> int:
        """Memory of so many numbers of keys and as many of values."""
        return int(numbers * (self.keys.bits + self.values.bits) / 8)


CACHES: dict[CacheName, CacheTypes] = {
    "f16": CacheTypes(F16, F16), "q8_0": CacheTypes(Q8_0, Q8_0), "q4_0": CacheTypes(Q8_0, Q4_0),
}  # fmt: skip


def cache_types(name: CacheName, head_size: int) -> CacheTypes:
    """The types of a cache, for heads of so many numbers.

    Raises:
        RecipeError: there is no such cache, or not for such heads.
    """
    if name not in CACHES:
        raise RecipeError(f"there is no cache {name}; choose from {', '.join(CACHE_NAMES)}")
    found = CACHES[name]
    if head_size % found.values.block:
        raise RecipeError(
            f"a cache in {name} takes heads of a multiple of {found.values.block} numbers, and this model's have {head_size}; "
            "use f16"
        )
    return found
