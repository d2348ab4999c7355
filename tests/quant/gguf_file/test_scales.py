"""Factors in the scales of ggml's blocks."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")
pytest.importorskip("gguf", reason="gguf is not installed: pip install 'medge[export]'")
from gguf import GGMLQuantizationType as Type

from medge.quant.gguf_file.compensate import GRIDS
from medge.quant.gguf_file.matrix_rows import decoded
from medge.quant.gguf_file.quantize import encode_blocks
from medge.quant.gguf_file.scales import HALVES, block_length, scaled

COLUMNS = 512
HALF = 2.0**-11  # half precision's relative rounding, of numbers that are not tiny


def blocks(kind: Type, size: float = 10.0) -> np.ndarray:
    """Rows whose scales are large enough for half precision's full accuracy."""
    rows = size * np.random.default_rng(7).standard_normal((6, COLUMNS)).astype(np.float32)
    return encode_blocks(rows, kind, np.ones(COLUMNS, np.float32))


def test_every_type_whose_codes_are_compensated_can_be_scaled() -> None:
    assert set(GRIDS) <= set(HALVES)


@pytest.mark.parametrize("kind", HALVES, ids=lambda kind: kind.name)
def test_each_block_is_multiplied_by_its_own_factor(kind: Type) -> None:
    stored = blocks(kind)
    factors = np.random.default_rng(8).uniform(0.8, 1.25, (6, COLUMNS // block_length(kind))).astype(np.float32)
    found = decoded(scaled(stored, kind, factors), kind)
    wanted = decoded(stored, kind) * factors.repeat(block_length(kind), axis=1)
    # Of types with a minimum both halves are rounded, and a value is the difference of what they give.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=4 * HALF * np.abs(wanted).max())
    assert not np.array_equal(found, decoded(stored, kind))


@pytest.mark.parametrize("kind", HALVES, ids=lambda kind: kind.name)
def test_factors_of_one_change_no_byte(kind: Type) -> None:
    stored = blocks(kind)
    ones = np.ones((6, COLUMNS // block_length(kind)), np.float32)
    np.testing.assert_array_equal(scaled(stored, kind, ones), stored)


@pytest.mark.parametrize("kind", [Type.Q8_0, Type.Q4_K], ids=lambda kind: kind.name)
def test_a_scale_that_half_precision_can_not_hold_stays_finite(kind: Type) -> None:
    factors = np.full((6, COLUMNS // block_length(kind)), 1e9, np.float32)
    assert np.isfinite(decoded(scaled(blocks(kind), kind, factors), kind)).all()
