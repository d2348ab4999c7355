"""Where ggml's block types keep the code of each weight, and the grid of values that a block's codes stand for.

Every type here stores a weight as a whole number, its code, that a block's scale (and for some types its minimum) makes a
value of: value = start + step * table[code]. Only the places of the codes are written down here, as planes of bits; the
grid is read off ggml's own decoder, by decoding the same block with other codes. So new codes can be put into a block
that llama.cpp's quantizer made, whose scales stay as they are. Types whose codes stand for several weights are in
`codebooks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ..rounding.gptq import Codes
from .matrix_rows import decoded

# ggml's non-linear four bits: kvalues_iq4nl in ggml-common.h.
NON_LINEAR = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@dataclass(frozen=True)
class Plane:
    """Some bits of each code.

    Attributes:
        start, stop: the plane's bytes in a block.
        width: bytes that hold `width` weights in their lowest bits, the next `width` in the bits above, and so on.
        bits: of each code that the plane holds.
        shift: the place of these bits in the code.
    """

    start: int
    stop: int
    width: int
    bits: int
    shift: int = 0

    def put(self, blocks: NDArray[np.uint8], codes: Codes) -> None:
        """Write the plane's bits of codes, (N, weights), into blocks, (N, bytes)."""
        each = 8 // self.bits
        part = (codes >> self.shift & ((1 << self.bits) - 1)).astype(np.uint8).reshape(len(codes), -1, each, self.width)
        packed = np.zeros((len(codes), part.shape[1], self.width), np.uint8)
        for place in range(each):
            packed |= part[:, :, place] << (place * self.bits)
        blocks[:, self.start : self.stop] = packed.reshape(len(codes), -1)


@dataclass(frozen=True)
class Coding:
    """How a block type stores codes.

    Attributes:
        planes: where the bits are.
        low, high: the codes that are used.
        flip: what is stored is the code with these bits turned over (a signed byte).
        table: what each code counts as, in steps; None where that is the code itself.
    """

    planes: tuple[Plane, ...]
    high: int
    low: int = 0
    flip: int = 0
    table: tuple[int, ...] | None = None

    def put(self, blocks: NDArray[np.uint8], codes: NDArray[np.uint8]) -> None:
        """Write codes, (N, weights), into blocks, (N, bytes)."""
        for plane in self.planes:
            plane.put(blocks, codes ^ np.uint8(self.flip))

    def counts(self) -> NDArray[np.float32]:
        """What each code from `low` to `high` counts as, in steps."""
        return np.array(self.table or range(self.low, self.high + 1), np.float32)


def _nibbles(start: int, stop: int, width: int) -> Plane:
    return Plane(start, stop, width, 4)


CODINGS: dict[Type, Coding] = {
    Type.Q4_0: Coding((_nibbles(2, 18, 16),), 15),
    Type.Q4_1: Coding((_nibbles(4, 20, 16),), 15),
    Type.Q5_0: Coding((_nibbles(6, 22, 16), Plane(2, 6, 1, 1, 4)), 31),
    Type.Q5_1: Coding((_nibbles(8, 24, 16), Plane(4, 8, 1, 1, 4)), 31),
    # A byte of -128 is never written: ggml's kernels may negate it.
    Type.Q8_0: Coding((Plane(2, 34, 32, 8),), 255, 1, 0x80),
    Type.Q2_K: Coding((Plane(16, 80, 32, 2),), 3),
    Type.Q3_K: Coding((Plane(32, 96, 32, 2), Plane(0, 32, 32, 1, 2)), 7),
    Type.Q4_K: Coding((_nibbles(16, 144, 32),), 15),
    Type.Q5_K: Coding((_nibbles(48, 176, 32), Plane(16, 48, 32, 1, 4)), 31),
    Type.Q6_K: Coding((_nibbles(0, 128, 64), Plane(128, 192, 32, 2, 4)), 63),
    Type.IQ4_NL: Coding((_nibbles(2, 18, 16),), 15, table=NON_LINEAR),
    Type.IQ4_XS: Coding((_nibbles(8, 136, 16),), 15, table=NON_LINEAR),
}


class Grid:
    """The values that the blocks of a matrix can take, with their scales as they are.

    Args:
        blocks: (N, bytes) uint8, the rows of a quantized matrix.
        kind: its type, one of `CODINGS`.
    """

    group = 1  # weights that share a code

    def __init__(self, blocks: NDArray[np.uint8], kind: Type) -> None:
        self.kind, self.coding = kind, CODINGS[kind]
        self._blocks = blocks
        self._weights, self._bytes = gguf.GGML_QUANT_SIZES[kind]
        self._counts = counts = self.coding.counts()
        columns = blocks.shape[1] // self._bytes * self._weights
        first, last = (
            self.values(np.full((len(blocks), columns), code, np.uint8)) for code in (self.coding.low, self.coding.high)
        )
        # (K, N), so that an input's weights lie together.
        self.step = np.ascontiguousarray(((last - first) / (counts[-1] - counts[0])).T)
        self.start = np.ascontiguousarray(first.T) - self.step * counts[0]
        # Between two neighbouring counts, a value belongs to the nearer one.
        self._between = (counts[1:] + counts[:-1]) / 2 if self.coding.table else None

    def values(self, codes: Codes) -> NDArray[np.float32]:
        """The values, (N, K), that codes, (N, K), stand for, by ggml's decoder."""
        return decoded(self.stored(codes), self.kind)

    def stored(self, codes: Codes) -> NDArray[np.uint8]:
        """The blocks, (N, bytes), with other codes, (N, K)."""
        out = self._blocks.reshape(-1, self._bytes).copy()
        self.coding.put(out, codes.reshape(-1, self._weights).astype(np.uint8, copy=False))
        return out.reshape(self._blocks.shape)

    def nearest(
        self, row: int, values: NDArray[np.float32], _: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The nearest codes to one input's weights, (1, N), and the values, (1, N), that they stand for."""
        step, start = self.step[row], self.start[row]
        # A block of zeros has no step; its codes mean nothing.
        wanted = np.divide(values[0] - start, step, out=np.zeros_like(step), where=step != 0)
        if self._between is None:
            counts = np.clip(np.rint(wanted), self._counts[0], self._counts[-1])
            return counts.astype(np.uint8), (start + step * counts)[None]
        places = np.searchsorted(self._between, wanted)
        return places.astype(np.uint8), (start + step * self._counts[places])[None]
