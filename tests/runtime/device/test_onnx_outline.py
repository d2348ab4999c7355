"""ONNX files from outside: what medge writes passes, everything else is one clear sentence before ONNX Runtime sees it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from medge.runtime.device.onnx_outline import BATCH, FLOAT, Interface, check_onnx
from medge.runtime.device.onnx_session import OrtSession
from medge.runtime.errors import BundleError

INTERFACE = Interface({"x": (FLOAT, (BATCH, 4))}, {"y": (BATCH, 3)}, 20)


def model() -> ModelProto:
    """y = x @ w, w (4, 3), and a shape that nobody needs."""
    ends = [helper.make_tensor_value_info(name, FLOAT, ["batch", width]) for name, width in (("x", 4), ("y", 3))]
    weights = [
        numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w"),
        numpy_helper.from_array(np.array([-1, 3], np.int64), "shape"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Reshape", ["h", "shape"], ["y"], allowzero=0),
    ]
    graph = helper.make_graph(nodes, "tower", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, producer_name="medge")


def write(folder: Path, content: ModelProto | bytes) -> Path:
    path = folder / "x.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def test_a_sound_file_is_read_and_runs(tmp_path: Path) -> None:
    path = write(tmp_path, model())
    outline = check_onnx(path, INTERFACE)
    assert outline.operators == (("", "MatMul"), ("", "Reshape"))
    assert outline.weights == 4 * 12 + 2 * 8
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(
        OrtSession(path, interface=INTERFACE, device="cpu").run(["y"], {"x": x})[0][0], [18, 22, 26]
    )


def test_what_quantizes_a_batch_as_a_whole_gives_something_else_of_a_batch(tmp_path: Path) -> None:
    made = model()
    made.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["h"], ["q", "scale", "zero"]))
    path = write(tmp_path, made)
    assert ("", "DynamicQuantizeLinear") in check_onnx(path, INTERFACE).operators
    with pytest.raises(BundleError, match="quantizes a batch as a whole"):
        check_onnx(path, replace(INTERFACE, batch_invariant=True))


def _loop(made: ModelProto) -> None:
    made.graph.node.append(helper.make_node("Loop", ["", ""], ["z"], body=onnx.GraphProto(name="body")))


def _subgraph(made: ModelProto) -> None:
    """In an operator that is allowed."""
    made.graph.node[1].attribute.append(helper.make_attribute("allowzero2", onnx.GraphProto(name="inner")))


def _function(made: ModelProto) -> None:
    made.functions.append(helper.make_function("own", "F", ["a"], ["b"], [], [helper.make_opsetid("", 20)]))


def _foreign(made: ModelProto) -> None:
    made.opset_import.append(helper.make_opsetid("ai.evil", 1))


def _unversioned(made: ModelProto) -> None:
    made.graph.node.append(helper.make_node("MatMulNBits", ["x", "w"], ["z"], domain="com.microsoft"))


def _many(made: ModelProto) -> None:
    made.graph.node.extend([made.graph.node[0]] * 20_000)


def _sparse(made: ModelProto) -> None:
    made.graph.sparse_initializer.add()


def _rename(made: ModelProto) -> None:
    made.graph.input[0].name = "pixels"


def _wide(made: ModelProto) -> None:
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5


def _double(made: ModelProto) -> None:
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def _weight(field: str, value: object) -> Callable[[ModelProto], None]:
    def change(made: ModelProto) -> None:
        if field == "dims":
            made.graph.initializer[0].dims[:] = value
        else:
            setattr(made.graph.initializer[0], field, value)

    return change


def _number(made: ModelProto) -> None:
    made.graph.initializer[1].raw_data = np.array([-1, 1 << 40], np.int64).tobytes()


def _external(location: str, offset: str = "0", length: str = "48", **more: str) -> Callable[[ModelProto], None]:
    def change(made: ModelProto) -> None:
        weight = made.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": offset, "length": length, **more}.items():
            weight.external_data.add(key=key, value=value)

    return change


def _twice(made: ModelProto) -> None:
    _external("x.onnx_data")(made)
    made.graph.initializer.append(made.graph.initializer[0])
    made.graph.initializer[-1].name = "v"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_loop, "attribute with field 6|operator 'Loop'"),
        (_subgraph, "attribute with field 6"),
        (_function, "model with field 25"),
        (_foreign, "operators of 'ai.evil'"),
        (_unversioned, "'com.microsoft' without their version"),
        (_many, "20,002 nodes"),
        (_sparse, "graph with field 15"),
        (_rename, "takes 'pixels'"),
        (_wide, "gives 'y' .x5"),
        (_double, "of type 11"),
        (_weight("dims", [4, 4]), "48 bytes, its shape .* takes 64"),
        (_weight("dims", [1 << 41, 1 << 41]), "has the shape"),
        (_weight("dims", [-4, -3]), "has the shape"),
        (_weight("data_type", TensorProto.STRING), "type 8"),
        (_weight("data_type", TensorProto.FLOAT16), "takes 24"),
        (_number, "length of 1,099,511,627,776"),
        (_external("x.onnx_data", "4000"), "ends before its weights do"),
        (_external("x.onnx_data", "0", "9" * 17), "has 99,999,999,999,999,999 bytes"),
        (_external("../secret"), "only place"),
        (_external("/etc/passwd"), "only place"),
        (_external("x.onnx_data", "-4"), "only place"),
        (_external("x.onnx_data", checksum="0"), "wrong place"),
        (_twice, "on each other"),
    ],
)  # fmt: skip
def test_what_medge_never_writes_is_named(tmp_path: Path, change: Callable[[ModelProto], None], reason: str) -> None:
    made = model()
    change(made)
    (tmp_path / "x.onnx_data").write_bytes(bytes(4000))
    path = write(tmp_path, made)
    with pytest.raises(BundleError, match=reason) as caught:
        OrtSession(path, interface=INTERFACE, device="cpu")
    assert len(str(caught.value)) < 400


def test_weights_beside_the_file(tmp_path: Path) -> None:
    made = model()
    made.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([-1, 3], np.int64), "shape"))
    data = made.graph.initializer[0].raw_data
    _external("x.onnx_data", "64")(made)
    path, beside = write(tmp_path, made), tmp_path / "x.onnx_data"
    with pytest.raises(BundleError, match="missing"):
        check_onnx(path, INTERFACE)
    beside.write_bytes(bytes(64) + data)
    assert check_onnx(path, INTERFACE).weights == 64
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(
        OrtSession(path, interface=INTERFACE, device="cpu").run(["y"], {"x": x})[0], [[18, 22, 26]]
    )
    beside.rename(tmp_path / "elsewhere")
    beside.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="no plain file"):
        check_onnx(path, INTERFACE)


def test_readers_may_not_differ_over_a_field_that_stands_twice(tmp_path: Path) -> None:
    """Protobuf would join two graphs into one; a check that took the first, or the last, would have seen another graph."""
    content = model().SerializeToString()
    path = write(tmp_path, content + ModelProto(graph=onnx.GraphProto(name="more")).SerializeToString())
    with pytest.raises(BundleError, match="whose graph stands twice"):
        check_onnx(path)


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff" * 40, b"GGUF" * 9, model().SerializeToString()[:-7]])
def test_no_protobuf_at_all(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BundleError, match="ONNX"):
        check_onnx(write(tmp_path, content))


def test_what_can_not_run_is_one_sentence(tmp_path: Path) -> None:
    session = OrtSession(write(tmp_path, model()), interface=INTERFACE, device="cpu")
    with pytest.raises(BundleError, match=r"x\.onnx: ONNX Runtime can't run it"):
        session.run(["y"], {"x": np.ones((1, 5), np.float32)})


def test_changed_bytes_are_refused_or_run(tmp_path: Path) -> None:
    """Refused in words by the check or by ONNX Runtime, or opened; nothing else comes out of it."""
    rng, whole, opened, refused = random.Random(16), model().SerializeToString(), 0, 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 5))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            session = OrtSession(write(tmp_path, bytes(content)), interface=INTERFACE, device="cpu", threads=1)
            session.run(["y"], {"x": np.ones((1, 4), np.float32)})
            opened += 1
        except BundleError as error:
            refused += bool(re.search("copy or export|ONNX Runtime can't", str(error)))
    assert opened + refused == 300
    assert min(opened, refused) > 20
