"""Graph rewrites: those that must be exact are, those that round stay within what their format allows."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tolerances import EXACT_REWRITE, FP32_ROUNDING, MLP_RELATIVE

from medge.quant.onnx_graph.calibrate import channel_ranges, second_moments
from medge.quant.onnx_graph.eight_bit import quantize_columns, tables_to_8_bit, to_dynamic, to_static
from medge.quant.onnx_graph.four_bit import to_four_bit
from medge.quant.onnx_graph.graph import Graph
from medge.quant.onnx_graph.half import to_half
from medge.quant.onnx_graph.pad import pad_hidden
from medge.quant.onnx_graph.smooth import norm_outputs, smooth
from medge.quant.rounding.gptq import LEVELS, block_grid, inverse_factor, round_gptq
from medge.runtime.device.onnx_session import OrtSession

WIDTH, HIDDEN, OUT = 64, 80, 48  # 80 = 16 x 5, as 4304 is: divisible by 16 and not by 32


def mlp(scale: float = 1.0) -> Graph:
    """Norm -> Linear -> Gelu -> Linear on (N, 8, WIDTH), with a token look-up in front."""
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.normal(size=(30, WIDTH)), "gamma": rng.uniform(0.5, 8, WIDTH), "beta": rng.normal(size=WIDTH),
        "w1": rng.normal(size=(WIDTH, HIDDEN)) * scale, "b1": rng.normal(size=HIDDEN),
        "w2": rng.normal(size=(HIDDEN, OUT)) / 8, "b2": rng.normal(size=OUT),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"], "embed"),
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "w1"], ["h"], "fc1"),
        helper.make_node("Add", ["h", "b1"], ["hb"], "fc1_bias"),
        helper.make_node("Gelu", ["hb"], ["g"], "gelu", approximate="tanh"),
        helper.make_node("MatMul", ["g", "w2"], ["o"], "fc2"),
        helper.make_node("Add", ["o", "b2"], ["y"], "fc2_bias"),
    ]
    graph = helper.make_graph(
        nodes, "mlp", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, OUT])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )  # fmt: skip
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


IDS = np.random.default_rng(1).integers(0, 30, (16, 8))
INPUTS = [IDS[i : i + 1] for i in range(len(IDS))]


def run(graph: Graph) -> NDArray[np.float32]:
    return OrtSession(graph.model.SerializeToString(), device="cpu").run(["y"], {"ids": IDS})[0]


def relative(graph: Graph) -> float:
    exact = run(mlp())
    return float(np.linalg.norm(run(graph) - exact) / np.linalg.norm(exact))


def test_padding_is_exact() -> None:
    graph = mlp()
    assert pad_hidden(graph, 256) == ["fc1"]
    assert list(graph.weights["w1"].dims) == [WIDTH, 256]
    assert list(graph.weights["w2"].dims) == [256, OUT]
    assert relative(graph) < EXACT_REWRITE
    assert pad_hidden(graph, 256) == []


def test_padding_leaves_a_shared_bias_alone() -> None:
    graph = mlp()
    reader = helper.make_node("Identity", ["b1"], ["other"], "other")
    graph.model.graph.node.append(reader)
    pad_hidden(graph, 256)
    assert list(graph.weights["b1"].dims) == [HIDDEN]


def test_smoothing_is_exact_and_narrows_the_range() -> None:
    graph = mlp()
    before = channel_ranges(graph, INPUTS, norm_outputs(graph))
    assert smooth(graph, before, 0.5) == 1
    after = channel_ranges(graph, INPUTS, norm_outputs(graph))
    assert relative(graph) < EXACT_REWRITE
    spread = [float(r.absmax.max() / np.median(r.absmax)) for r in (before["n"], after["n"])]
    assert spread[1] < spread[0]


@pytest.mark.parametrize("signed", [True, False])
def test_columns_round_within_half_a_step(signed: bool) -> None:
    weight = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    weight[:, 3] = 0  # an empty column
    weight[:, 4] = np.abs(weight[:, 4]) + 1  # a column whose range doesn't hold zero
    values, scale, zero = quantize_columns(weight, signed=signed)
    assert values.dtype == (np.int8 if signed else np.uint8)
    back = (values.astype(np.float32) - zero.astype(np.float32)) * scale
    assert (np.abs(back - weight) <= scale * 0.501 + 1e-7).all() or not signed
    assert (np.abs(back - weight) <= scale * 1.01 + 1e-7).all()  # U8: the zero point is rounded as well


@pytest.mark.parametrize("signed", [True, False])
def test_dynamic_8_bit(signed: bool) -> None:
    graph = mlp()
    to_dynamic(graph, signed=signed)
    assert [node.op_type for node in graph.nodes].count("MatMulInteger") == 2
    assert "w1" not in graph.weights
    assert relative(graph) < MLP_RELATIVE["s8" if signed else "u8"]


def test_static_8_bit_uses_calibrated_ranges_and_can_skip() -> None:
    graph = mlp()
    to_static(graph, channel_ranges(graph, INPUTS, ["n", "g"]), signed=False)
    assert relative(graph) < MLP_RELATIVE["u8"]
    part = mlp()
    to_static(part, channel_ranges(part, INPUTS, ["n", "g"]), signed=False, skip=frozenset({"fc2"}))
    assert {"w2", "w1.quantized"} <= set(part.weights)


def test_tables_keep_rows_apart() -> None:
    graph = mlp()
    tables_to_8_bit(graph)
    assert graph.weights["table.quantized"].data_type == TensorProto.INT8
    assert relative(graph) < MLP_RELATIVE["s8 table"]


def test_four_bit_beats_rounding_to_nearest() -> None:
    graph = mlp()
    pad_hidden(graph)
    hessians = second_moments(graph, INPUTS, ["n", "g"])
    weight = graph.array("w1")
    scale, zero = block_grid(weight, 32, np.diag(hessians["n"]))
    group = np.repeat(np.arange(WIDTH // 32), 32)
    nearest = np.clip(np.rint(weight / scale[group]) + zero[group], 0, LEVELS)
    compensated = round_gptq(weight, hessians["n"], scale, zero, 32)

    def loss(levels: NDArray[np.generic]) -> float:
        error = (levels - zero[group]) * scale[group] - weight
        return float(np.einsum("kn,kl,ln->", error, hessians["n"], error))

    assert loss(compensated) < 0.6 * loss(nearest)  # what GPTQ is used for; no gain would be 1
    assert to_four_bit(graph, hessians, 32) == []
    assert [node.op_type for node in graph.nodes].count("MatMulNBits") == 2
    assert relative(graph) < MLP_RELATIVE["int4"]


def test_four_bit_leaves_what_does_not_fit() -> None:
    graph = mlp()
    assert to_four_bit(graph, second_moments(graph, INPUTS, ["n", "g"]), 32) == ["fc2"]


@pytest.mark.parametrize("layers", [1, 3])
def test_matmulnbits_layout_is_onnx_runtimes(layers: int) -> None:
    """Dequantized by hand from the stored tensors, the product is what ONNX Runtime computes from them."""
    graph = mlp(scale=layers)
    pad_hidden(graph)
    to_four_bit(graph, second_moments(graph, INPUTS, ["n", "g"]), 32)
    packed, scale, zeros = (graph.array(f"w1.{part}") for part in ("q4", "q4_scale", "q4_zero"))
    n, blocks = packed.shape[:2]
    levels = np.stack([packed & 15, packed >> 4], -1).reshape(n, blocks, 32).astype(np.float32)
    zero = np.stack([zeros & 15, zeros >> 4], -1).reshape(n, -1)[:, :blocks].astype(np.float32)
    weight = ((levels - zero[..., None]) * scale.reshape(n, blocks, 1)).reshape(n, -1).T
    session = OrtSession(graph.with_outputs(["n", "h"]), device="cpu")
    x, h = session.run(["n", "h"], {"ids": IDS})
    np.testing.assert_allclose(h, x @ weight, atol=1e-3 * layers)  # sums of 64 products of order ten


def test_fp16_keeps_what_overflows() -> None:
    safe, _ = to_half(mlp(), INPUTS)
    assert relative(safe) < MLP_RELATIVE["fp16"]
    assert safe.weights["w1"].data_type == TensorProto.FLOAT16
    wild = mlp(scale=20_000.0)  # hidden values around a million
    exact = run(wild)
    half, decisions = to_half(wild, INPUTS)
    assert {"fc1", "gelu"} <= set(decisions["kept_in_fp32"])
    out = run(half)
    assert np.isfinite(out).all()
    assert np.linalg.norm(out - exact) < MLP_RELATIVE["fp16"] * np.linalg.norm(exact)
    # And without the scan it would not do: the value is beyond fp16.
    assert decisions["kept_in_fp32"]["fc1"] > 65504


def test_external_data_over_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medge.quant.onnx_graph.graph.EXTERNAL_OVER", 1000)
    files = mlp().save(tmp_path / "vision_model.onnx")
    assert [path.name for path in files] == ["vision_model.onnx", "vision_model.onnx_data"]
    onnx.checker.check_model(str(files[0]))
    np.testing.assert_array_equal(OrtSession(files[0]).run(["y"], {"ids": IDS})[0], run(mlp()))


@pytest.mark.parametrize("size", [1, 7, 300])
def test_inverse_factor_is_the_inverses_cholesky_factor(size: int) -> None:
    rows = np.random.default_rng(size).normal(size=(size + 40, size))
    hessian = rows.T @ rows
    factor, condition = inverse_factor(hessian), np.linalg.cond(hessian)
    np.testing.assert_array_equal(factor, np.triu(factor))
    np.testing.assert_allclose(
        factor.astype(np.float64).T @ factor @ hessian, np.eye(size), rtol=0, atol=FP32_ROUNDING * condition
    )  # the factor is of float32, whose rounding the Hessian that it is multiplied with makes greater
