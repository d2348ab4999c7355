"""Rounding with error compensation (GPTQ, Frantar et al. 2022), onto whatever grid a caller has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 15
MIDDLE = 8  # of a symmetric grid: the code that stands for zero

DAMPING = 0.01  # of the mean diagonal, GPTQ's own choice

CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)

# Among so many neighbouring inputs each error is spread at once; over the others by products of ever larger matrices.
TOGETHER = 8

Codes = NDArray[np.unsignedinteger[Any]]

# Rounds the weights of a group of neighbouring inputs, (group, N) float32. Given the first input's number, the weights, and the
# (group, group) part of the factor that says what an error costs (of one input alone it makes no difference): one code for each
# group, (N,), and its values, (group, N) float32.
Rounding = Callable[[int, NDArray[np.float32], NDArray[np.float32]], tuple[Codes, NDArray[np.float32]]]


def block_grid(
    weight: NDArray[np.float32], block: int, importance: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale and zero point of every block: two (K / block, N) arrays for a weight of (K, N).

    Args:
        weight: (K, N), K divisible by `block`.
        block: inputs that share a scale.
        importance: (K,), how much an error in each input row weighs (the Hessian's diagonal).
    """
    blocks = weight.reshape(-1, block, weight.shape[1])
    low, high = np.minimum(blocks.min(axis=1), 0), np.maximum(blocks.max(axis=1), 0)

    def grid(clip: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scale = np.maximum((high - low) * clip / LEVELS, 1e-8).astype(np.float32)
        return scale, np.clip(np.rint(-low * clip / scale), 0, LEVELS).astype(np.float32)

    return _best_grid(blocks, importance, grid)


def symmetric_grid(
    weight: NDArray[np.float32], block: int, importance: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same on a grid of levels -8..7 about zero, each scale a number of 16 bits; the zero point is `MIDDLE` everywhere."""
    blocks = weight.reshape(-1, block, weight.shape[1])
    greatest = np.abs(blocks).max(axis=1)

    def grid(clip: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scale = np.maximum(greatest * clip / (LEVELS - MIDDLE), 1e-6).astype(np.float16).astype(np.float32)
        return scale, np.full_like(scale, MIDDLE)

    return _best_grid(blocks, importance, grid)


def _best_grid(
    blocks: NDArray[np.float32], importance: NDArray[np.float32],
    grid: Callable[[float], tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:  # fmt: skip
    """Of the scales and zero points that `grid` gives for each clipping, those of each block that lose least.

    `blocks` is (K / block, block, N).
    """
    weights = importance.reshape(*blocks.shape[:2], 1)
    best_scale = np.ones((len(blocks), blocks.shape[2]), np.float32)
    best_zero, best_error = np.zeros_like(best_scale), np.full_like(best_scale, np.inf)
    for clip in CLIPS:
        scale, zero = grid(clip)
        rounded = np.clip(np.rint(blocks / scale[:, None]) + zero[:, None], 0, LEVELS)
        error = (((rounded - zero[:, None]) * scale[:, None] - blocks) ** 2 * weights).sum(axis=1)
        better = error < best_error
        best_scale[better], best_zero[better] = scale[better], zero[better]
        best_error[better] = error[better]
    return best_scale, best_zero


def inverse_factor(hessian: NDArray[np.float64]) -> NDArray[np.float32]:
    """The upper triangular U with U.T @ U = inverse of a positive definite (K, K) matrix.

    Its rows hold how the error of one input is best spread over the inputs that follow. Without forming the inverse:
    H = V @ V.T with an upper V is Cholesky's factorization seen from the far corner, and U is V's inverse. That is a
    quarter of the work, which at 4352 inputs a layer is minutes of an export. V's condition is the square root of H's: for
    its inverse float32 is enough, while H itself is taken apart in float64.
    """
    lower = np.linalg.cholesky(hessian[::-1, ::-1]).astype(np.float32)
    return _upper_inverse(lower[::-1, ::-1])


def _upper_inverse(upper: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inverse of an upper triangular matrix by halves, so that nearly all the work is matrix products."""
    size = len(upper)
    if size <= 128:
        return np.triu(np.linalg.inv(upper))
    half = size // 2
    first, last = _upper_inverse(upper[:half, :half]), _upper_inverse(upper[half:, half:])
    out = np.zeros_like(upper)
    out[:half, :half], out[half:, half:] = first, last
    out[:half, half:] = -(first @ upper[:half, half:]) @ last
    return out


class Spreading:
    """How the rounding errors of a layer's inputs are spread: one Hessian's factor, for every weight that it drives.

    Args:
        hessian: (K, K), the sum over positions of the outer product of a layer's inputs.
        damping: added to the diagonal, as a share of its mean.
        group: neighbouring inputs that are rounded together; K is divisible by it.
    """

    def __init__(self, hessian: NDArray[np.float32], damping: float = DAMPING, group: int = 1) -> None:
        # The inputs that weigh most come first, while there are others left to make up for them.
        first = np.argsort(-np.diag(hessian).reshape(-1, group).sum(1), kind="stable") * group
        self.order, self.group = (first[:, None] + np.arange(group)).reshape(-1), group
        damped = hessian[np.ix_(self.order, self.order)].astype(np.float64)
        mean = float(np.diag(damped).mean()) or 1.0
        damped[np.diag_indices(len(damped))] += damping * mean
        self.factor = inverse_factor(damped)

    def round(self, weight: NDArray[np.float32], rounding: Rounding) -> Codes:
        """Round a weight, (K, N), group by group; each input's error is made up for by those that follow.

        Returns:
            the codes, (K / group, N).
        """
        order, factor, group = self.order, self.factor, self.group
        work = weight[order].astype(np.float32)  # of the inputs that are rounded, their errors
        codes: dict[int, Codes] = {}

        def spread(start: int, end: int) -> None:
            if end - start > max(TOGETHER, group):
                half = start + (end - start) // group // 2 * group
                spread(start, half)
                work[half:end] -= factor[start:half, half:end].T @ work[start:half]
                spread(half, end)
                return
            for begin in range(start, end, group):
                rows = slice(begin, begin + group)
                codes[order[begin] // group], values = rounding(int(order[begin]), work[rows], factor[rows, rows])
                for row in range(begin, begin + group):
                    work[row] = (work[row] - values[row - begin]) / factor[row, row]
                    work[row + 1 : end] -= factor[row, row + 1 : end, None] * work[row]

        spread(0, len(order))
        return np.stack([codes[number] for number in range(len(codes))])


def round_gptq(
    weight: NDArray[np.float32], hessian: NDArray[np.float32], scale: NDArray[np.float32], zero: NDArray[np.float32],
    block: int,
) -> NDArray[np.uint8]:  # fmt: skip
    """Round (K, N) to levels 0..15 on the given grid, compensating along the inputs: (K, N) uint8."""

    def rounding(
        row: int, values: NDArray[np.float32], _: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        group = row // block
        level = np.clip(np.rint(values / scale[group]) + zero[group], 0, LEVELS)
        return level[0].astype(np.uint8), (level - zero[group]) * scale[group]

    return Spreading(hessian).round(weight, rounding).astype(np.uint8, copy=False)


def on_grid(weight: NDArray[np.float32], hessian: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """(K, N) rounded by GPTQ and still as numbers, such that a plain quantizer finds the same levels again.

    A plain quantizer takes a block's grid from its least and greatest value, zero between them. Where compensation left no
    weight at an end of the grid, the one that was nearest to that end is put there.
    """
    scale, zero = block_grid(weight, block, np.maximum(np.diag(hessian), 1e-12))
    levels = round_gptq(weight, hessian, scale, zero, block).astype(np.int16)
    k, n = weight.shape
    shape = (k // block, block, n)
    blocks, original = levels.reshape(shape), weight.reshape(shape)
    for end, nearest, needed in ((0, original.argmin(1), zero > 0), (LEVELS, original.argmax(1), zero < LEVELS)):
        open_end = needed & (blocks != end).all(1)
        group, column = np.nonzero(open_end)
        blocks[group, nearest[group, column], column] = end
    return ((blocks - zero[:, None]) * scale[:, None]).reshape(k, n).astype(np.float32)
