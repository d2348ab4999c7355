"""How many threads ONNX Runtime gets, and on which device."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime
import pytest
from onnx import TensorProto, helper

from medge.runtime.device.onnx_outline import Outline
from medge.runtime.device.onnx_session import OrtSession
from medge.runtime.errors import RecipeError


@pytest.fixture(scope="module")
def identity() -> bytes:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


@pytest.mark.parametrize(
    ("confined_to", "asked", "given"),
    [(8, None, 0), (3, None, 3), (3, 5, 5), (8, 5, 5)],  # 0: ONNX Runtime's own choice
)
def test_threads(
    monkeypatch: pytest.MonkeyPatch, identity: bytes, confined_to: int, asked: int | None, given: int
) -> None:
    monkeypatch.setattr("medge.runtime.device.onnx_session.usable_cores", lambda: confined_to)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    session = OrtSession(identity, threads=asked, device="cpu")
    assert session._session.get_session_options().intra_op_num_threads == given


def test_threads_sleep_where_they_wait_if_that_is_asked_for(identity: bytes) -> None:
    name = "session.intra_op.allow_spinning"
    usual, sleeping = (
        OrtSession(identity, device="cpu", sleeping=asked)._session.get_session_options() for asked in (False, True)
    )
    assert sleeping.get_session_config_entry(name) == "0"
    with pytest.raises(RuntimeError, match="not"):
        usual.get_session_config_entry(name)


@pytest.mark.parametrize(
    ("device", "operator", "cuda"),
    [("auto", "MatMul", True), ("auto", "MatMulInteger", False), ("cuda", "MatMulInteger", True), ("cpu", "MatMul", False)],
)  # fmt: skip
def test_a_gpu_is_chosen_where_it_has_kernels(
    monkeypatch: pytest.MonkeyPatch, device: str, operator: str, cuda: bool
) -> None:
    outline = Outline({}, {}, (("", "Transpose"), ("", operator)), {"": 20}, 0)
    opened: list[list[str]] = []
    monkeypatch.setattr("medge.runtime.device.onnx_session.check_onnx", lambda path, interface: outline)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda model, options, providers: opened.append(providers))
    OrtSession(Path("vision.onnx"), device=device)
    assert opened == [["CUDAExecutionProvider"] * cuda + ["CPUExecutionProvider"]]


def test_a_gpu_that_is_not_there_is_refused(identity: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RecipeError, match="'cuda' is not available"):
        OrtSession(identity, device="cuda")
