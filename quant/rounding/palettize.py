"""Look-up tables for weights: weighted k-means in one dimension, a table for each group of output channels.

What a weight's error costs is its square times the mean square of the input it multiplies, so that is its weight in the
clustering (the diagonal of GPTQ's Hessian; Kim et al. 2023, "SqueezeLLM", weigh by the loss's curvature alike). Values are
sorted once; a Lloyd step then costs a few searches and prefix sums, whatever the group's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .allocate import Choice, allocate

STEPS = 60
BINS = 512
Floats = NDArray[np.float32]


class _Ranked:
    """Values in their order, with prefix sums of their weights and moments: any cluster's cost is a few look-ups."""

    def __init__(self, values: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        order = np.argsort(values, kind="stable")
        self.values, mass = values[order], np.maximum(weights[order], 1e-30)
        # Shifted, so that squares lose nothing to a common offset.
        self.shift = float((self.values * mass).sum() / mass.sum())
        moved = self.values - self.shift
        self.mass, self.first, self.second = (
            np.concatenate([[0.0], np.cumsum(mass * moved**power)]) for power in range(3)
        )
        histogram, edges = np.histogram(self.values, BINS, weights=mass)
        # The best density of centres goes with the cube root of the mass's density (Panter and Dite 1951).
        self._rising, self._edges = np.concatenate([[0.0], np.cumsum(np.cbrt(histogram))]), edges

    def start(self, count: int) -> NDArray[np.float64]:
        """Centres to begin with."""
        return np.interp((np.arange(count) + 0.5) / count * self._rising[-1], self._rising, self._edges)

    def bounds(self, centres: NDArray[np.float64]) -> NDArray[np.intp]:
        """Where each centre's cluster begins, and the end."""
        middles = np.searchsorted(self.values, (centres[1:] + centres[:-1]) / 2)
        return np.concatenate([[0], middles, [len(self.values)]])

    def means(self, bounds: NDArray[np.intp], otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
        share = self.mass[bounds[1:]] - self.mass[bounds[:-1]]
        total = self.first[bounds[1:]] - self.first[bounds[:-1]]
        return np.where(share > 0, total / np.maximum(share, 1e-300) + self.shift, otherwise)

    def costs(self, start: NDArray[np.intp], end: NDArray[np.intp]) -> NDArray[np.float64]:
        """Sum of weight * distance^2 from its mean, of the values from start to end."""
        mass, first = self.mass[end] - self.mass[start], self.first[end] - self.first[start]
        return np.maximum(self.second[end] - self.second[start] - first**2 / np.maximum(mass, 1e-300), 0)

    def settle(self, centres: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lloyd's steps until nothing moves."""
        for _ in range(STEPS):
            moved = np.sort(self.means(self.bounds(centres), centres))
            if np.array_equal(moved, centres):
                break
            centres = moved
        return centres


def cluster(values: Floats, weights: Floats, count: int) -> Floats:
    """Replace each value by the nearest of `count` centres, fp16 numbers, chosen to make sum(weights * error^2) small.

    Lloyd's steps end in the nearest optimum; from there, as long as it helps, the two neighbours whose union costs least
    become one cluster and the cluster that gains most by it becomes two.

    Args:
        values: any shape.
        weights: of that shape, not negative.
    """
    if values.min() == values.max():  # rows of words that no text of the training held, for one
        return (values.astype(np.float16) + np.float16(0)).astype(np.float32)
    flat = values.ravel().astype(np.float64)
    ranked = _Ranked(flat, weights.ravel().astype(np.float64))
    centres = ranked.settle(ranked.start(count))
    for _ in range(count):
        bounds = ranked.bounds(centres)
        start, end = bounds[:-1], bounds[1:]
        cost = ranked.costs(start, end)
        middle = np.clip(np.searchsorted(ranked.values, centres), start, end)
        gain = cost - ranked.costs(start, middle) - ranked.costs(middle, end)
        joined = ranked.costs(start[:-1], end[1:]) - cost[:-1] - cost[1:]
        worst = int(joined.argmin())
        gain[worst : worst + 2] = 0  # these are about to become one
        best = int(gain.argmax())
        if gain[best] <= joined[worst]:
            break
        cut = np.sort(np.concatenate([np.delete(bounds, worst + 1), [middle[best]]]))
        moved = ranked.settle(np.sort(ranked.means(cut, centres)))
        found = ranked.bounds(moved)
        if ranked.costs(found[:-1], found[1:]).sum() >= cost.sum():
            break
        centres = moved
    # Not sorted as fp16: numpy 2.4.6 does that wrong (see export/to_coreml/write.py).
    table = np.unique(centres.astype(np.float16).astype(np.float64) + 0.0)
    nearest = np.searchsorted((table[1:] + table[:-1]) / 2, flat)
    return table[nearest].astype(np.float32).reshape(values.shape)


def palettize(weight: Floats, moments: Floats, bits: int, group: int) -> Floats:
    """A matrix, (out, in), with at most 2^bits values in each `group` of rows.

    Args:
        moments: mean square of each input, (in,).
    """
    out = np.empty_like(weight)
    for start in range(0, len(weight), group):
        part = weight[start : start + group]
        out[start : start + group] = cluster(part, np.broadcast_to(moments, part.shape), 1 << bits)
    return out


def relative_error(weight: Floats, other: Floats, moments: Floats) -> float:
    """Share of a layer's output energy that the change of its weights loses, inputs taken as uncorrelated."""
    return float((((weight - other) ** 2) @ moments).sum() / max(float(((weight**2) @ moments).sum()), 1e-30))


@dataclass(frozen=True)
class Layer:
    """A layer to compress: its matrix, (out, in), its inputs' mean squares, and what a unit of relative error costs."""

    weight: Floats
    moments: Floats
    sensitivity: float = 1.0


def choose_bits(layers: Mapping[str, Layer], budget: float, group: int, fixed: int = 0) -> dict[str, int]:
    """Bits of each layer, 4, 6 or 8, so that all take at most `budget` bytes, `fixed` others included.

    Raises:
        RecipeError: 4 bits everywhere are more than the budget.
    """
    ladder = (4, 6, 8)
    options = {}
    for name, layer in layers.items():
        # The tables of a spread of groups tell a layer's rounding error well enough, for a fraction of the time.
        starts = np.unique(np.linspace(0, max(len(layer.weight) - group, 0), 4).astype(int) // group * group)
        rows = np.concatenate([np.arange(start, min(start + group, len(layer.weight))) for start in starts])
        sample = layer.weight[rows]
        options[name] = [
            Choice(
                bits, palette_bytes(layer.weight.shape, bits, group),
                layer.sensitivity * relative_error(sample, palettize(sample, layer.moments, bits, group), layer.moments),
            ) for bits in ladder
        ]  # fmt: skip
    return {name: choice.value for name, choice in allocate(options, budget, fixed).items()}


def palette_bytes(shape: tuple[int, ...], bits: int, group: int) -> int:
    """Bytes of a matrix as indices and fp16 tables."""
    return int(np.prod(shape)) * bits // 8 + -(-shape[0] // group) * 2 * (1 << bits)
