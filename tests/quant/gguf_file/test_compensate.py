"""New codes in the blocks of llama.cpp's quantizer, and error compensation by them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tolerances import FP32_ROUNDING

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")
pytest.importorskip("gguf", reason="gguf is not installed: pip install 'medge[export]'")
import gguf
from gguf import GGMLQuantizationType as Type

from medge.quant.gguf_file.codebooks import CODEBOOKS, GROUP, CodebookGrid, entries_of
from medge.quant.gguf_file.codes import CODINGS, Grid
from medge.quant.gguf_file.compensate import GRIDS, compensate
from medge.quant.gguf_file.importance import gather
from medge.quant.gguf_file.inputs import SAME_INPUTS, STRIDE, CalibrationRun, input_of
from medge.quant.gguf_file.moments import Moments
from medge.quant.gguf_file.quantize import encode_blocks, quantize_language
from medge.quant.gguf_file.sensitivity import LADDER
from medge.quant.recipes.gguf import GGUF_RECIPES
from medge.quant.rounding.gptq import Spreading, inverse_factor
from medge.runtime.device.gguf_header import GGUFHeader, read_header
from medge.runtime.generator.engine import Engine
from medge.runtime.generator.prompt import Item

Prompts = Callable[[Engine], list[list[Item]]]


def drawn(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((rows, columns)).astype(np.float32)


def correlated(columns: int, positions: int = 2000) -> np.ndarray:
    """Second moments, (columns, columns), of inputs of which neighbours say much about each other."""
    inputs = np.cumsum(np.random.default_rng(5).standard_normal((positions, columns)), axis=1)
    inputs /= np.sqrt((inputs**2).mean(1, keepdims=True))
    return (inputs.T @ inputs).astype(np.float32)


@pytest.mark.parametrize("kind", CODINGS, ids=lambda kind: kind.name)
def test_the_nearest_codes_are_those_that_were_stored(kind: Type) -> None:
    """What ggml's own encoder wrote comes back to the byte when its decoded values are rounded to their grid."""
    blocks = encode_blocks(drawn(8, 512), kind, np.ones(512, np.float32))
    grid = Grid(blocks, kind)
    decoded = gguf.quants.dequantize(blocks, kind)
    codes = np.empty(decoded.shape, np.uint8)
    for column in range(512):
        codes[:, column], values = grid.nearest(column, np.ascontiguousarray(decoded[:, [column]].T), np.eye(1))
        np.testing.assert_allclose(values[0], decoded[:, column], atol=FP32_ROUNDING)
    np.testing.assert_array_equal(grid.values(codes), decoded)
    np.testing.assert_array_equal(gguf.quants.dequantize(grid.stored(codes), kind), decoded)


@pytest.mark.parametrize("kind", CODINGS, ids=lambda kind: kind.name)
def test_new_codes_leave_the_scales(kind: Type) -> None:
    blocks, coding = encode_blocks(drawn(8, 512), kind, np.ones(512, np.float32)), CODINGS[kind]
    codes = np.random.default_rng(1).integers(coding.low, coding.high + 1, (8, 512)).astype(np.uint8)
    grid, counts = Grid(blocks, kind), coding.counts()
    stored = grid.stored(codes)
    again = Grid(stored, kind)
    np.testing.assert_array_equal(again.step, grid.step)
    expected = grid.start + grid.step * counts[codes.T.astype(int) - coding.low]
    np.testing.assert_allclose(gguf.quants.dequantize(stored, kind).T, expected, atol=FP32_ROUNDING * 8)
    assert len(np.unique(codes)) == len(counts)


@pytest.mark.parametrize("kind", CODEBOOKS, ids=lambda kind: kind.name)
def test_the_nearest_entries_are_those_that_were_stored(kind: Type) -> None:
    """What ggml's own encoder wrote comes back when its decoded values are rounded to their grid, whatever an error costs."""
    blocks = encode_blocks(drawn(8, 512), kind, np.ones(512, np.float32))
    grid, decoded = CodebookGrid(blocks, kind), gguf.quants.dequantize(blocks, kind)
    factor = inverse_factor(correlated(8).astype(np.float64))
    codes = np.empty((8, 512 // GROUP), np.uint32)
    for group in range(512 // GROUP):
        eight = np.ascontiguousarray(decoded[:, group * GROUP : (group + 1) * GROUP].T)
        codes[:, group], values = grid.nearest(group * GROUP, eight, factor)
        np.testing.assert_allclose(values, eight, atol=FP32_ROUNDING)
    np.testing.assert_array_equal(gguf.quants.dequantize(grid.stored(codes), kind), decoded)


@pytest.mark.parametrize("kind", CODEBOOKS, ids=lambda kind: kind.name)
def test_new_entries_and_signs_leave_the_scales(kind: Type) -> None:
    blocks, entries = encode_blocks(drawn(8, 512), kind, np.ones(512, np.float32)), entries_of(kind)
    draw, parts = np.random.default_rng(1), GROUP // entries.shape[1]
    chosen = draw.integers(0, len(entries), (8, 64, parts))
    minus = draw.integers(0, 256, (8, 64))
    if CODEBOOKS[kind].even:
        minus = np.array([one for one in range(256) if one.bit_count() % 2 == 0])[minus % 128]
    codes = (minus + (chosen << (8 + 12 * np.arange(parts))).sum(-1)).astype(np.uint32)
    grid = CodebookGrid(blocks, kind)
    stored = grid.stored(codes)
    np.testing.assert_array_equal(CodebookGrid(stored, kind).step, grid.step)
    signs = 1 - 2 * (minus[..., None] >> np.arange(GROUP) & 1)
    expected = grid.step.T[..., None] * entries[chosen].reshape(8, 64, GROUP) * signs
    np.testing.assert_allclose(gguf.quants.dequantize(stored, kind), expected.reshape(8, 512), atol=FP32_ROUNDING * 8)


@pytest.mark.parametrize("kind", CODEBOOKS, ids=lambda kind: kind.name)
def test_an_entry_is_the_cheapest_of_its_signs(kind: Type) -> None:
    """Held against trying every entry, under a metric that couples the weights."""
    blocks, entries = encode_blocks(drawn(8, 256), kind, np.ones(256, np.float32)), entries_of(kind)
    part = entries.shape[1]
    factor = inverse_factor(correlated(8).astype(np.float64))
    grid = CodebookGrid(blocks, kind)
    values = np.ascontiguousarray(drawn(8, 256)[:, :8].T)
    codes, found = grid.nearest(0, values, factor)
    # Of four at a time, the first four are chosen as if the others could make up for all.
    inner = np.linalg.inv(factor[:part, :part]).T
    signs = np.sign(found[:part])
    tried = grid.step[0] * signs * entries[:, :, None]
    costs = np.square(np.einsum("ij,ejn->ein", inner, values[:part] - tried)).sum(1)
    np.testing.assert_allclose(costs[codes >> 8 & 0xFFF, np.arange(8)], costs.min(0), rtol=1e-3)
    assert len(np.unique(codes)) > 1


@pytest.mark.parametrize("kind", GRIDS, ids=lambda kind: kind.name)
def test_compensation_lowers_the_error_of_outputs_and_not_that_of_weights(kind: Type) -> None:
    weight, moment = drawn(64, 512), correlated(512)
    blocks = encode_blocks(weight, kind, np.diag(moment).copy() / 2000)
    grid = GRIDS[kind](blocks, kind)
    codes = Spreading(moment, group=grid.group).round(np.ascontiguousarray(weight.T), grid.nearest)
    plain, ours = (gguf.quants.dequantize(rows, kind) - weight for rows in (blocks, grid.stored(codes.T)))
    lost = [float(np.einsum("ij,jk,ik->", error, moment, error, optimize=True)) for error in (plain, ours)]
    # A codebook has few neighbours to choose from.
    assert lost[1] < (0.7 if kind in CODEBOOKS else 0.5) * lost[0]
    assert (ours**2).sum() > 0.9 * (plain**2).sum()  # single weights are no nearer: it is their sum that is


def test_every_type_of_the_ladder_has_a_grid() -> None:
    assert {Type[name] for pair in LADDER for name in pair} <= set(GRIDS)


def test_whose_inputs_are_the_same() -> None:
    assert input_of("blk.3.attn_v.weight") == input_of("blk.3.attn_q.weight") == "blk.3.attn_q.weight"
    assert input_of("blk.3.ffn_gate.weight") == "blk.3.ffn_up.weight"
    assert input_of("blk.3.ffn_down.weight") == "blk.3.ffn_down.weight"


def test_inputs_that_are_taken_for_the_same_are(full: tuple[Path, Path], prompts: Prompts) -> None:
    seen: dict[str, np.ndarray] = {}
    run = CalibrationRun(*full, prompts)
    with run.engine(lambda name, rows: seen.update({name: rows.copy()}), lambda _: True) as engine:
        engine.observe_prompt(prompts(engine)[0], stride=STRIDE)
    for matrix_name, other in SAME_INPUTS.items():
        np.testing.assert_array_equal(seen[f"blk.1.{matrix_name}.weight"], seen[f"blk.1.{other}.weight"])
    matrix = gather(run)
    assert set(matrix.sums) >= {name for name in seen if name.startswith("blk.")}
    assert matrix.counts["blk.1.attn_v.weight"] == matrix.counts["blk.1.attn_q.weight"] > 0


def layout(header: GGUFHeader) -> dict[str, tuple[str, int, int]]:
    return {name: (tensor.type, tensor.offset, tensor.bytes) for name, tensor in header.tensors.items()}


def tensor_bytes(path: Path, name: str) -> bytes:
    tensor = read_header(path).tensors[name]
    return path.read_bytes()[tensor.offset : tensor.offset + tensor.bytes]


@pytest.mark.parametrize("recipe", ["q4_0", "q4_k_m"])
def test_a_file_keeps_its_layout_and_its_layers_lose_less(
    full: tuple[Path, Path], prompts: Prompts, tmp_path: Path, recipe: str
) -> None:
    plain, ours, small = (tmp_path / name for name in ("plain.gguf", "ours.gguf", "small.gguf"))
    run = CalibrationRun(*full, prompts)
    matrix = gather(run)
    for path in (plain, ours, small):
        quantize_language(full[0], path, GGUF_RECIPES[recipe], importance=matrix)
    done: list[tuple[int, int]] = []
    found = compensate(ours, Moments(run), lambda _, step, total: done.append((step, total)))
    assert layout(read_header(ours)) == layout(read_header(plain))
    assert done[-1] == (found.matrices, found.matrices)
    matrices = [name for name, tensor in read_header(plain).tensors.items()
                if name.startswith("blk.") and len(tensor.shape) == 2 and tensor.type != "F16"]  # fmt: skip
    assert found.matrices == len(matrices) > 0
    # Of random weights, fitted on some thousand positions and judged on others: a trained model gains more.
    assert 0 < found.after < 0.9 * found.before
    changed = {name for name in read_header(plain).tensors if tensor_bytes(ours, name) != tensor_bytes(plain, name)}
    assert changed <= set(matrices)
    assert len(changed) == found.changed > 0.8 * len(matrices)
    # In as many passes as it takes to keep one matrix's moments at a time, the same codes are found.
    again = compensate(small, Moments(run, budget=1))
    assert again == found
    assert small.read_bytes() == ours.read_bytes()


def test_inputs_are_gathered_beside_the_matrix_and_kept_for_the_next_recipe(
    full: tuple[Path, Path], prompts: Prompts, tmp_path: Path
) -> None:
    ran: list[int] = []

    def counted(engine: Engine) -> list[list[Item]]:
        ran.append(1)
        return prompts(engine)

    (folder := tmp_path / "kept").mkdir()
    run = CalibrationRun(*full, counted)
    alone, beside, second = (tmp_path / name for name in ("alone.gguf", "beside.gguf", "second.gguf"))
    moments = Moments(run, folder)
    matrix = gather(run, moments=moments)
    for path in (alone, beside, second):
        quantize_language(full[0], path, GGUF_RECIPES["q4_0"], importance=matrix)
    found = compensate(beside, moments)
    assert compensate(second, moments) == found
    assert len(ran) == 1  # the prompts ran once, for the matrix and two recipes
    assert compensate(alone, Moments(run)) == found
    assert alone.read_bytes() == beside.read_bytes() == second.read_bytes()
    # What one pass can't hold is gathered when it is asked for, and kept, too.
    part = Moments(run, folder, budget=1)
    gather(run, moments=part)
    again = tmp_path / "again.gguf"
    quantize_language(full[0], again, GGUF_RECIPES["q4_0"], importance=matrix)
    ran.clear()
    assert compensate(again, part) == found
    passes = len(ran)
    assert passes > 1
    quantize_language(full[0], again, GGUF_RECIPES["q4_0"], importance=matrix)
    compensate(again, part)
    assert len(ran) == passes
    assert again.read_bytes() == alone.read_bytes()


def test_a_single_prompt_leaves_nothing_to_judge_by(full: tuple[Path, Path], prompts: Prompts, tmp_path: Path) -> None:
    path = tmp_path / "q.gguf"
    quantize_language(full[0], path, GGUF_RECIPES["q4_0"])
    before = path.read_bytes()
    run = CalibrationRun(*full, lambda engine: prompts(engine)[:1])
    assert compensate(path, Moments(run)).changed == 0
    (folder := tmp_path / "kept").mkdir()
    beside = Moments(run, folder)
    assert gather(run, moments=beside).chunks == 1
    assert compensate(path, beside).changed == 0
    assert path.read_bytes() == before


def test_a_file_in_sixteen_bits_is_left_alone(full: tuple[Path, Path], prompts: Prompts, tmp_path: Path) -> None:
    path = tmp_path / "f16.gguf"
    quantize_language(full[0], path, GGUF_RECIPES["f16"])
    before = path.read_bytes()
    assert compensate(path, Moments(CalibrationRun(*full, prompts))).matrices == 0
    assert path.read_bytes() == before
