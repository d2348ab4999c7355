"""How many threads ONNX Runtime gets."""

from __future__ import annotations

import os

import pytest
from onnx import TensorProto, helper

from medge.runtime.device.onnx_session import OrtSession


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
