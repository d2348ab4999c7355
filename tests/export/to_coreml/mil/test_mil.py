"""The evaluator of CoreML packages: its operations against coremltools and PyTorch, its reader against damaged files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tolerances import FP32_ROUNDING, FP32_SUMS

from medge.export.to_coreml.mil.evaluator import Program
from medge.export.to_coreml.mil.ops import OPS, apply
from medge.export.to_coreml.mil.package import ELEMENTS, _unpack
from medge.export.to_coreml.quietly import check, checked_once, coremltools, quiet
from medge.runtime.errors import BundleError

ct = coremltools()
with quiet():
    from coremltools.converters.mil.mil import Builder as mb

RNG = np.random.default_rng(7)
X = RNG.normal(size=(2, 6, 4)).astype(np.float32)
Y = RNG.normal(size=(2, 6, 4)).astype(np.float32)
IMAGE = RNG.normal(size=(1, 4, 1, 6)).astype(np.float32)
INT8 = RNG.integers(-128, 128, (6, 4)).astype(np.int8)


def folded(build: Callable[[], Any]) -> list[np.ndarray]:
    """What coremltools' own constant folding makes of an operation on constants."""
    found: list[np.ndarray] = []

    @mb.program(input_specs=[mb.TensorSpec((1,))], opset_version=ct.target.iOS18)
    def _program(x: Any) -> Any:
        made = build()
        for value in made if isinstance(made, (list, tuple)) else [made]:
            # Compressed constants are folded on demand only: that is their point.
            known = value.val if value.val is not None else value.op.materialized_val_inference()
            found.append(np.asarray(known))
        return mb.identity(x=x)

    return found


# (operation, arguments): the same given to coremltools' builder and to ours.
FOLDED: list[tuple[str, dict[str, Any]]] = [
    ("add", {"x": X, "y": Y}),
    ("sub", {"x": X, "y": Y}),
    ("mul", {"x": X, "y": Y}),
    ("real_div", {"x": X, "y": Y}),
    ("greater_equal", {"x": X, "y": Y}),
    ("equal", {"x": X.round(), "y": Y.round()}),
    ("maximum", {"x": X, "y": Y}),
    ("log", {"x": np.abs(X), "epsilon": np.float32(1e-3)}),
    ("reduce_mean", {"x": X, "axes": np.array([1], np.int32), "keep_dims": True}),
    ("reduce_max", {"x": X, "axes": np.array([-1], np.int32), "keep_dims": False}),
    ("reduce_l2_norm", {"x": X, "axes": np.array([2], np.int32), "keep_dims": True}),
    ("reduce_argmax", {"x": X, "axis": 1, "keep_dims": False}),
    ("gather_along_axis", {"x": X, "indices": np.argsort(Y, axis=1)[:, :3].astype(np.int32), "axis": 1}),
    ("topk", {"x": X, "k": 3, "axis": 1}),
    ("tile", {"x": X, "reps": np.array([1, 2, 3], np.int32)}),
    ("fill_like", {"ref_tensor": X, "value": np.float32(2.5)}),
    ("select", {"cond": X > 0, "a": X, "b": Y}),
    ("gelu", {"x": X, "mode": "TANH_APPROXIMATION"}),
    ("gelu", {"x": X, "mode": "EXACT"}),
    ("gelu", {"x": X, "mode": "SIGMOID_APPROXIMATION"}),
    ("softmax", {"x": X, "axis": 1}),
    ("matmul", {"x": X, "y": Y, "transpose_x": False, "transpose_y": True}),
    ("linear", {"x": X[0], "weight": Y[0], "bias": Y[0][:, 0].copy()}),
    ("reshape", {"x": X, "shape": np.array([2, -1], np.int32)}),
    ("transpose", {"x": X, "perm": np.array([2, 0, 1], np.int32)}),
    ("expand_dims", {"x": X, "axes": np.array([1, -1], np.int32)}),
    ("squeeze", {"x": X[:1], "axes": np.array([0], np.int32)}),
    ("split", {"x": X, "split_sizes": np.array([1, 3], np.int32), "axis": 2}),
    ("split", {"x": X, "num_splits": 3, "axis": 1}),
    ("concat", {"values": [X, Y], "axis": 1}),
    ("gather", {"x": X, "indices": np.array([3, 0], np.int32), "axis": 1}),
    ("slice_by_index", {"x": X, "begin": np.array([0, -3, 1], np.int32), "end": np.array([2, 6, 0], np.int32),
                        "stride": np.array([1, 2, 1], np.int32), "begin_mask": np.array([False, False, False]),
                        "end_mask": np.array([False, False, True])}),
    ("slice_by_index", {"x": X, "begin": np.array([1, 0, 0], np.int32), "end": np.array([0, 6, 4], np.int32),
                        "squeeze_mask": np.array([True, False, False])}),
    ("layer_norm", {"x": X, "axes": np.array([2], np.int32), "gamma": X[0, 0], "beta": Y[0, 0], "epsilon": np.float32(1e-6)}),
    ("cast", {"x": X, "dtype": "int32"}),
    ("identity", {"x": X}),
    ("quantize", {"input": X, "scale": np.float32(0.02), "zero_point": np.int8(3), "output_dtype": "int8"}),
    ("dequantize", {"input": INT8, "scale": RNG.random(4).astype(np.float32), "axis": 1,
                    "zero_point": np.arange(4, dtype=np.int8)}),
    ("constexpr_blockwise_shift_scale", {"data": INT8, "scale": RNG.random((6, 2)).astype(np.float32),
                                         "offset": RNG.integers(-9, 9, (6, 2)).astype(np.int8)}),
    ("constexpr_lut_to_dense", {"indices": RNG.integers(0, 16, (6, 4)).astype(np.uint8),
                                "lut": RNG.normal(size=(3, 1, 256, 1)).astype(np.float32)}),
]  # fmt: skip
# What coremltools does not fold is held against PyTorch below.
AGAINST_TORCH = {"conv", "einsum", "constexpr_affine_dequantize"}


def ours(name: str, arguments: dict[str, Any]) -> list[np.ndarray]:
    def held(value: Any) -> Any:
        if isinstance(value, list):
            return [held(item) for item in value]
        packed = name.startswith("constexpr_") or not isinstance(value, np.ndarray)
        return value if packed else torch.from_numpy(np.ascontiguousarray(value))

    return [np.asarray(value) for value in apply(name, {key: held(value) for key, value in arguments.items()})]


@pytest.mark.parametrize(("name", "arguments"), FOLDED, ids=lambda item: item if isinstance(item, str) else "")
def test_operation_equals_constant_folding(name: str, arguments: dict[str, Any]) -> None:
    expected = folded(lambda: getattr(mb, name)(**arguments))
    found = ours(name, arguments)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(
            mine.astype(np.float64), theirs.astype(np.float64), rtol=2 * FP32_ROUNDING, atol=2 * FP32_ROUNDING
        )


def test_every_operation_is_held_against_something() -> None:
    assert {name for name, _ in FOLDED} | AGAINST_TORCH == set(OPS)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("gather", {"x": X, "indices": np.array([0]), "batch_dims": 1}, "gather with batch_dims"),
        ("concat", {"values": [X, Y], "axis": 1, "interleave": True}, "interleaved concat"),
        ("topk", {"x": X, "k": 2, "axis": 1, "ascending": True}, "topk that is ascending or unsorted"),
        ("constexpr_lut_to_dense", {"indices": INT8, "lut": X[0], "shape": np.array([6, 4])}, "form of iOS 16"),
        ("constexpr_lut_to_dense", {"indices": INT8, "lut": np.zeros((3, 1, 4, 2))}, "tables of vectors"),
    ],
)
def test_forms_that_were_never_checked_are_refused(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(BundleError, match=f"{words}, which medge does not compute"):
        ours(name, arguments)


def test_convolutions_equal_torch() -> None:
    weight = RNG.normal(size=(5, 4, 1, 1)).astype(np.float32)
    bias = RNG.normal(size=5).astype(np.float32)
    fast = ours("conv", {"x": IMAGE, "weight": weight, "bias": bias})[0]
    plain = torch.nn.functional.conv2d(
        torch.from_numpy(IMAGE), torch.from_numpy(weight), torch.from_numpy(bias)
    ).numpy()
    np.testing.assert_allclose(fast, plain, rtol=FP32_SUMS, atol=FP32_ROUNDING)
    picture, patch = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32), RNG.normal(size=(5, 3, 4, 4)).astype(np.float32)
    arguments = {"x": picture, "weight": patch, "strides": [4, 4], "pad_type": "custom", "pad": np.array([0, 0, 2, 2])}
    padded = torch.nn.functional.pad(torch.from_numpy(picture), (2, 2, 0, 0))
    expected = torch.nn.functional.conv2d(padded, torch.from_numpy(patch), stride=4).numpy()
    np.testing.assert_allclose(ours("conv", arguments)[0], expected, rtol=FP32_SUMS, atol=FP32_SUMS)


def test_affine_weights_by_channel() -> None:
    scale, zero = RNG.random(6).astype(np.float32), RNG.integers(-5, 5, 6).astype(np.int8)
    found = ours(
        "constexpr_affine_dequantize", {"quantized_data": INT8, "scale": scale, "zero_point": zero, "axis": 0}
    )[0]
    np.testing.assert_allclose(found, (INT8.astype(np.float32) - zero[:, None]) * scale[:, None])


@pytest.mark.parametrize("element", [name for name, (_, bits) in ELEMENTS.items() if 0 < bits < 8])
def test_packed_values_come_back(element: str) -> None:
    bits, signed = ELEMENTS[element][1], element.startswith("INT")
    low = -(1 << (bits - 1)) if signed else 0
    values = RNG.integers(low, low + (1 << bits), 29)
    stream = ((values[:, None] % (1 << bits)) >> np.arange(bits)) & 1
    packed = np.packbits(stream.astype(np.uint8).ravel(), bitorder="little")
    assert _unpack(packed, bits, len(values), signed=signed).tolist() == values.tolist()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small package of the converter's own, with a weight large enough to lie in the weight file."""
    path = tmp_path_factory.mktemp("mil") / "small.mlpackage"
    layer = torch.nn.Linear(64, 64).eval()
    program = torch.export.export(layer, (torch.zeros(1, 64),)).run_decompositions({})
    with quiet():
        ct.convert(program, minimum_deployment_target=ct.target.iOS17).save(str(path))
    return path


def changed(package: Path, tmp_path: Path, change: Callable[[Path], None]) -> Path:
    copy = tmp_path / "copy.mlpackage"
    shutil.copytree(package, copy)
    change(copy / "Data/com.apple.CoreML")
    return copy


def test_unknown_operations_are_named(tmp_path: Path) -> None:
    class Wave(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(x) + torch.cumsum(x, 1)

    program = torch.export.export(Wave(), (torch.zeros(1, 4),)).run_decompositions({})
    with quiet():
        ct.convert(program, minimum_deployment_target=ct.target.iOS17).save(str(tmp_path / "x.mlpackage"))
    with pytest.raises(
        BundleError, match=r"operations cumsum, sin, which medge does not know: was it made by another tool"
    ):
        Program(tmp_path / "x.mlpackage")


def test_missing_and_damaged_files(package: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"lacks weights/weight\.bin; copy the package again"):
        Program(changed(package, tmp_path / "a", lambda data: (data / "weights/weight.bin").unlink()))
    with pytest.raises(BundleError, match="cut short|needs"):
        Program(changed(package, tmp_path / "b", lambda data: (data / "weights/weight.bin").write_bytes(b"\0" * 32)))
    with pytest.raises(BundleError, match="not this model's weight file"):
        Program(changed(package, tmp_path / "c", lambda data: (data / "weights/weight.bin").write_bytes(b"\1" * 40000)))
    with pytest.raises(BundleError, match=r"lacks model\.mlmodel"):
        Program(changed(package, tmp_path / "d", lambda data: (data / "model.mlmodel").unlink()))
    with pytest.raises(BundleError, match="is damaged"):
        Program(changed(package, tmp_path / "e", lambda data: (data / "model.mlmodel").write_bytes(b"\xff" * 99)))
    with pytest.raises(BundleError, match="no CoreML package"):
        Program(tmp_path)


def test_inputs_are_checked(package: Path) -> None:
    program = Program(package)
    name = program.package.inputs[0].name
    with pytest.raises(BundleError, match=r"takes \(1, 64\)"):
        program.run(program.package.outputs, {name: np.zeros((2, 64), np.float32)})
    with pytest.raises(BundleError, match="needs the input"):
        program.run(program.package.outputs, {})
    with pytest.raises(BundleError, match="computes no 'nothing'"):
        program.run(["nothing"], {name: np.zeros((1, 64), np.float32)})


def test_a_program_is_checked_once_and_a_spoiled_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from coremltools.converters.mil.mil.program import Program as MilProgram

    checked: list[object] = []
    validate = MilProgram.validate
    monkeypatch.setattr(MilProgram, "validate", lambda self, **_: checked.append(self) or validate(self))

    @mb.program(input_specs=[mb.TensorSpec((1,))], opset_version=ct.target.iOS18)
    def _program(x: Any) -> Any:
        return mb.add(x=x, y=np.float32(1))

    with quiet(), checked_once():
        model = ct.convert(_program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18)
    assert not checked
    assert check(model) is model
    assert checked == [model._mil_program]
    add = model._mil_program.functions["main"].find_ops(op_type="add")[0]
    add.outputs[0]._child_ops.append(add)  # as if it read what it makes
    with pytest.raises(Exception, match="should be consumed by op"):
        check(model)
