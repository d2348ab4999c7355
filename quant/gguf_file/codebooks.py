"""ggml's block types with codebooks (IQ2 and IQ3): an entry stands for four or eight neighbouring weights at once.

A weight is step * entry * sign. The entries are few, positive and fixed; each eight weights have a byte of signs, of which some
types store seven bits, so that the number of minus signs is even. As in `codes`, only the places of entries and signs are
written down here: the codebooks are gguf-py's, and the steps are read off its decoder. The types of 1.5 bits have none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ..rounding.gptq import Codes
from .codes import Plane
from .matrix_rows import decoded

GROUP = 8  # neighbouring weights that share a byte of signs
AT_ONCE = 4 << 20  # distances, of rows from entries, that are held at once: 16 MB

# Writes entries, (N, parts), and signs, (N, groups), into blocks, (N, bytes).
Write = Callable[[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.uint8]], None]


def _put(blocks: NDArray[np.uint8], start: int, values: NDArray[np.generic]) -> None:
    """Write the bytes of values, (N, count), from byte `start` of each block on."""
    raw = np.ascontiguousarray(values).view(np.uint8).reshape(len(blocks), -1)
    blocks[:, start : start + raw.shape[1]] = raw


def _seven_bits(blocks: NDArray[np.uint8], start: int, stride: int, signs: NDArray[np.uint8]) -> None:
    """Put four groups' signs into each 32-bit word from byte `start` on, one in `stride` words; its scale stays on top."""
    words = np.ascontiguousarray(blocks[:, start:]).view("<u4")
    seven = (signs & 0x7F).astype(np.uint32).reshape(len(blocks), -1, 4)
    packed = (seven << (np.arange(4, dtype=np.uint32) * 7)).sum(-1, dtype=np.uint32)
    words[:, ::stride] = words[:, ::stride] & np.uint32(0xF << 28) | packed
    _put(blocks, start, words)


def _iq2_xxs(blocks: NDArray[np.uint8], entries: NDArray[np.uint16], signs: NDArray[np.uint8]) -> None:
    words = np.ascontiguousarray(blocks[:, 2:]).view("<u4")
    words[:, ::2] = entries.astype(np.uint8).view("<u4")
    _put(blocks, 2, words)
    _seven_bits(blocks[:, 4:], 2, 2, signs)


def _iq2_xs(blocks: NDArray[np.uint8], entries: NDArray[np.uint16], signs: NDArray[np.uint8]) -> None:
    _put(blocks, 2, (entries | (signs & 0x7F).astype(np.uint16) << 9).astype("<u2"))


def _iq2_s(blocks: NDArray[np.uint8], entries: NDArray[np.uint16], signs: NDArray[np.uint8]) -> None:
    _put(blocks, 2, entries.astype(np.uint8))
    _put(blocks, 34, signs)
    Plane(66, 74, 1, 2, 8).put(blocks, entries)


def _iq3_xxs(blocks: NDArray[np.uint8], entries: NDArray[np.uint16], signs: NDArray[np.uint8]) -> None:
    _put(blocks, 2, entries.astype(np.uint8))
    _seven_bits(blocks, 66, 1, signs)


def _iq3_s(blocks: NDArray[np.uint8], entries: NDArray[np.uint16], signs: NDArray[np.uint8]) -> None:
    _put(blocks, 2, entries.astype(np.uint8))
    Plane(66, 74, 1, 1, 8).put(blocks, entries)
    _put(blocks, 74, signs)


@dataclass(frozen=True)
class Codebook:
    """How a block type stores entries and signs.

    Attributes:
        write: puts them into blocks.
        even: only even numbers of minus signs in eight weights can be stored.
    """

    write: Write
    even: bool


CODEBOOKS: dict[Type, Codebook] = {
    Type.IQ2_XXS: Codebook(_iq2_xxs, even=True),
    Type.IQ2_XS: Codebook(_iq2_xs, even=True),
    Type.IQ2_S: Codebook(_iq2_s, even=False),
    Type.IQ3_XXS: Codebook(_iq3_xxs, even=True),
    Type.IQ3_S: Codebook(_iq3_s, even=False),
}


def entries_of(kind: Type) -> NDArray[np.float32]:
    """A type's codebook, (entries, 4 or 8) float32: sizes without signs, in steps."""
    decoder = getattr(gguf.quants, kind.name)
    decoder.init_grid()
    return np.asarray(decoder.grid, np.float32).reshape(decoder.grid_shape)


class CodebookGrid:
    """The values that the blocks of a matrix can take, with their scales as they are.

    Args:
        blocks: (N, bytes) uint8, the rows of a quantized matrix.
        kind: its type, one of `CODEBOOKS`.
    """

    group = GROUP

    def __init__(self, blocks: NDArray[np.uint8], kind: Type) -> None:
        self.kind, self._codebook = kind, CODEBOOKS[kind]
        self._blocks = blocks
        self._weights, self._bytes = gguf.GGML_QUANT_SIZES[kind]
        self._entries = entries_of(kind)
        self._part = self._entries.shape[1]
        self._pairs = np.triu_indices(self._part)
        first, second = self._pairs
        # A distance is linear in an entry's values and their products.
        products = self._entries[:, first] * self._entries[:, second]
        self._terms = np.ascontiguousarray(np.concatenate([products, self._entries], 1).T)
        columns = blocks.shape[1] // self._bytes * self._weights
        ones = self.values(np.zeros((len(blocks), columns // GROUP), np.uint32))
        # (groups, N): the weights of a group share a step.
        self.step = np.ascontiguousarray(ones[:, ::GROUP].T) / self._entries[0, 0]

    def values(self, codes: Codes) -> NDArray[np.float32]:
        """The values, (N, K), that codes, (N, K / 8), stand for, by gguf-py's decoder."""
        return decoded(self.stored(codes), self.kind)

    def stored(self, codes: Codes) -> NDArray[np.uint8]:
        """The blocks, (N, bytes), with other codes, (N, K / 8): signs in the lowest byte, above them twelve bits an entry."""
        out = self._blocks.reshape(-1, self._bytes).copy()
        shifts = 8 + 12 * np.arange(GROUP // self._part, dtype=np.uint32)
        entries = (codes[..., None] >> shifts & 0xFFF).astype(np.uint16).reshape(len(out), -1)
        self._codebook.write(out, entries, (codes & 0xFF).astype(np.uint8).reshape(len(out), -1))
        return out.reshape(self._blocks.shape)

    def nearest(
        self, row: int, values: NDArray[np.float32], factor: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """The best codes of eight inputs' weights, (8, N), and the values, (8, N), that they stand for.

        Args:
            row: the first of the inputs.
            factor: (8, 8), upper triangular: an error e of the eight costs |factor^-T e|^2 after the inputs that follow made up
                for what they can.
        """
        step = self.step[row // GROUP]
        signs = np.where(values < 0, -1, 1).astype(np.float32)
        weights = self._weights_of(factor)
        if self._codebook.even:
            _flip(signs, signs.prod(0) < 0, np.abs(values) * weights)
        codes, found = np.zeros(values.shape[1], np.uint32), np.zeros_like(values)
        left, errors = values.copy(), np.zeros_like(values)
        for number, start in enumerate(range(0, GROUP, self._part)):
            part = slice(start, start + self._part)
            if start:  # the first part's error is known, and this one makes up for it
                left[part] -= factor[:start, part].T @ errors[:start]
                signs[part] = np.where(left[part] < 0, -1, 1)
                if self._codebook.even:
                    _flip(signs, signs.prod(0) < 0, np.abs(left) * weights, part)
            inner = np.linalg.inv(factor[part, part]).T.astype(np.float32)
            entries = self._nearest_entries(left[part], signs[part], step, inner)
            found[part] = step * signs[part] * self._entries[entries].T
            errors[part] = inner @ (left[part] - found[part])
            codes |= entries.astype(np.uint32) << (8 + 12 * number)
        minus = (signs < 0).astype(np.uint32) << np.arange(GROUP, dtype=np.uint32)[:, None]
        return codes | minus.sum(0, dtype=np.uint32), found

    @staticmethod
    def _weights_of(factor: NDArray[np.float32]) -> NDArray[np.float32]:
        """(8, 1): what an error of each of the inputs alone costs."""
        return np.square(np.linalg.inv(factor).T).sum(0)[:, None].astype(np.float32)

    def _nearest_entries(
        self, values: NDArray[np.float32], signs: NDArray[np.float32], step: NDArray[np.float32], inner: NDArray[np.float32]
    ) -> NDArray[np.int_]:  # fmt: skip
        """The entries, (N,), whose values with the signs cost least: |inner (values - step signs entry)|^2.

        A block of zeros has no step; its entries mean nothing.
        """
        metric = inner.T @ inner
        first, second = self._pairs
        twice = np.where(first == second, 1, 2).astype(np.float32)[:, None]
        squares = (metric[first, second][:, None] * twice) * signs[first] * signs[second]
        linear = np.divide(-2 * signs * (metric @ values), step, out=np.zeros_like(values), where=step != 0)
        terms = np.concatenate([squares, linear]).T  # (N, terms)
        at_once = max(AT_ONCE // len(self._entries), 1)
        return np.concatenate(
            [(terms[begin : begin + at_once] @ self._terms).argmin(1) for begin in range(0, len(terms), at_once)]
        )


def _flip(
    signs: NDArray[np.float32], where: NDArray[np.bool_], costs: NDArray[np.float32], part: slice = slice(None)
) -> None:
    """Turn over one sign of each column, (8, N), that `where` names: the one that costs least, of those in `part`."""
    columns = np.flatnonzero(where)
    cheapest = costs[part][:, columns].argmin(0) + (part.start or 0)
    signs[cheapest, columns] *= -1
