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

STEPS = 40
Floats = NDArray[np.float32]


def cluster(values: Floats, weights: Floats, count: int) -> Floats:
    """Replace each value by the nearest of `count` centres, fp16 numbers, chosen to make sum(weights * error^2) small.

    Args:
        values: any shape.
        weights: of that shape, not negative.
    """
    flat = values.ravel().astype(np.float64)
    order = np.argsort(flat, kind="stable")
    ranked = flat[order]
    mass = np.maximum(weights.ravel().astype(np.float64)[order], 1e-30)
    summed_mass = np.concatenate([[0.0], np.cumsum(mass)])
    summed = np.concatenate([[0.0], np.cumsum(mass * ranked)])
    # The best density of centres goes with the cube root of the values' density (Panter and Dite 1951); half way between
    # quantiles of the mass and an even grid is close to that and needs no estimate of it.
    quantiles = ranked[np.searchsorted(summed_mass[1:-1], (np.arange(count) + 0.5) / count * summed_mass[-1])]
    centres = np.sort((quantiles + np.linspace(ranked[0], ranked[-1], count)) / 2)
    for _ in range(STEPS):
        edges = np.searchsorted(ranked, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [len(ranked)]])
        share = summed_mass[bounds[1:]] - summed_mass[bounds[:-1]]
        total = summed[bounds[1:]] - summed[bounds[:-1]]
        moved = np.where(share > 0, total / np.maximum(share, 1e-300), centres)
        if np.array_equal(moved, centres):
            break
        centres = np.sort(moved)
    table = np.unique(centres.astype(np.float16)).astype(np.float64)
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


def choose_bits(layers: Mapping[str, Layer], budget: float, group: int) -> dict[str, int]:
    """Bits of each layer, 4, 6 or 8, so that all take at most `budget` bytes and the sensitive ones get more.

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
    return {name: choice.value for name, choice in allocate(options, budget).items()}


def palette_bytes(shape: tuple[int, ...], bits: int, group: int) -> int:
    """Bytes of a matrix as indices and fp16 tables."""
    return int(np.prod(shape)) * bits // 8 + -(-shape[0] // group) * 2 * (1 << bits)
