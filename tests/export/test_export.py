"""The exporter: the graph that it makes, what it refuses, and what an interruption leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from command_line import hears_ctrl_c
from tolerances import EXACT_HOP, EXACT_REWRITE, FP32_EMBEDDING, FP32_ROUNDING

import medge
from medge.export.families.pooling import pooling_attention
from medge.export.families.siglip import Reference
from medge.export.jobs.encoder import export_medsiglip
from medge.export.jobs.encoder_job import ExportJob
from medge.export.source.checkpoint import Checkpoint
from medge.export.source.samples import builtin_samples, read_samples
from medge.export.to_onnx.towers import describe_graph, export_tower, stage_names
from medge.quant.onnx_graph.graph import Graph
from medge.runtime.device.cpu import pick_target
from medge.runtime.device.onnx_session import OrtSession
from medge.runtime.errors import BundleError, CheckpointError, ImageError, LabelError, RecipeError, StorageError
from medge.runtime.golden.encoder import replay

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Reference:
    return Reference(Checkpoint.open(checkpoint, "siglip"))


@pytest.fixture(scope="module")
def graphs(reference: Reference) -> dict[str, Graph]:
    return {tower: export_tower(reference.tower(tower), reference.signatures[tower]) for tower in ("vision", "text")}


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_the_graph_is_the_blessed_one(graphs: dict[str, Graph], tower: str) -> None:
    """After a wanted change: MEDGE_BLESS=1 pytest tests/export, and read the difference before committing it."""
    path = GOLDEN / f"{tower}_graph.txt"
    text = describe_graph(graphs[tower])
    if os.environ.get("MEDGE_BLESS"):
        path.write_text(text)
    assert text == path.read_text()


def test_the_pooling_patch_changes_nothing_and_is_taken_back(reference: Reference) -> None:
    tower = reference.model.vision_model
    original, side = tower.head.attention, tower.config.image_size
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tower(pixel_values=pixels).pooler_output
        with pooling_attention(tower):
            assert tower.head.attention is not original
            patched = tower(pixel_values=pixels).pooler_output
    assert tower.head.attention is original
    torch.testing.assert_close(patched, expected, rtol=0, atol=EXACT_REWRITE)


def test_graphs_carry_nothing_of_the_machine(graphs: dict[str, Graph]) -> None:
    for graph in graphs.values():
        body = graph.without_weights().SerializeToString()
        assert b"/site-packages/" not in body
        assert os.getcwd().encode() not in body


@pytest.mark.parametrize("batch", [1, 3])
def test_both_towers_equal_pytorch_stage_by_stage(graphs: dict[str, Graph], reference: Reference, batch: int) -> None:
    rng = np.random.default_rng(batch)
    inputs = {"vision": rng.uniform(-1, 1, (batch, 3, 112, 112)).astype(np.float32),
              "text": rng.integers(0, 32000, (batch, 64))}  # fmt: skip
    for tower, graph in graphs.items():
        expected = reference.images(inputs[tower]) if tower == "vision" else reference.texts(inputs[tower])
        names = stage_names(graph)
        assert len(names) == 1 + len([name for name in expected.stages if name.startswith("block")])
        session = OrtSession(graph.with_outputs(names), device="cpu")
        *stages, pooled = session.run([*names, "pooler_output"], {graph.model.graph.input[0].name: inputs[tower]})
        for name, value in zip(names, stages, strict=True):
            exact = expected.stages[name.removeprefix("stage/")]
            assert np.abs(value - exact).max() < FP32_EMBEDDING * max(1, np.abs(exact).max()), name
        embedding = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        assert np.abs(embedding - expected.embedding).max() < FP32_EMBEDDING


def test_the_bundle_has_the_layout_of_transformers_js(make_bundle: Callable[[str], Path]) -> None:
    for recipe, suffix in (
        ("int8", "_quantized"),
        ("fp32", ""),
        ("int4", "_q4"),
        ("fp16", "_fp16"),
        ("int8-static", "_int8"),
    ):
        bundle = make_bundle(recipe)
        for tower, name in (("vision", "pixel_values"), ("text", "input_ids")):
            model = onnx.load(bundle / "onnx" / f"{tower}_model{suffix}.onnx")
            assert [item.name for item in model.graph.input] == [name]
            assert {item.name for item in model.graph.output} == {"last_hidden_state", "pooler_output"}
            assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
        for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
            assert (bundle / name).is_file()


def test_without_text(checkpoint: Path, few_images: Path, labels_file: Path, tmp_path: Path) -> None:
    job = ExportJob(checkpoint, tmp_path / "b", calibration=few_images, labels=labels_file, with_text=False)
    bundle, (report,) = export_medsiglip(job)
    assert report.status == "passed"
    assert bundle.path("text") is None
    encoder = medge.load(tmp_path / "b")
    assert encoder.classify(few_images / "CT_small.dcm")[0].labels == bundle.manifest.labels
    with pytest.raises(BundleError, match="exported with --without-text"):
        encoder.embed_texts("x")
    replayed = [holds for *_, holds in replay(encoder)]
    assert replayed
    assert all(replayed)


@pytest.mark.parametrize(
    ("machine", "features", "target"),
    [("x86_64", {"avx2"}, "avx2"), ("x86_64", {"avx2", "avx_vnni"}, "avx512-vnni"), ("AMD64", {"avx512_vnni"}, "avx512-vnni"),
     ("aarch64", set(), "arm-dotprod"), ("arm64", set(), "arm-dotprod")],
)  # fmt: skip
def test_the_target_of_a_machine(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: set[str], target: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("medge.runtime.device.cpu.cpu_features", lambda: frozenset(features))
    assert pick_target("auto")[0].name == target


def test_targets_change_the_number_format(graphs: dict[str, Graph], few_images: Path) -> None:
    from medge.quant.onnx_graph.apply import quantize
    from medge.quant.recipes.onnx import ONNX_RECIPES
    from medge.runtime.device.cpu import TARGETS

    inputs = read_samples(few_images).inputs("eval-tf", 112, 2)
    for name, target in TARGETS.items():
        small, decisions = quantize(graphs["vision"], ONNX_RECIPES["int8"], target, inputs)
        kinds = {small.weights[n].data_type for n in small.weights if n.endswith(".quantized")}
        assert kinds == {onnx.TensorProto.INT8 if target.signed_weights else onnx.TensorProto.UINT8}
        assert decisions["weights"] == ("s8" if target.signed_weights else "u8"), name
    with pytest.raises(RecipeError, match="there is no target 'z80'"):
        pick_target("z80")


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"recipe": "int3"}, RecipeError, "no recipe"),
        ({"profile": "nearest"}, RecipeError, "no preprocessing profile"),
        ({"target": "z80"}, RecipeError, "no target"),
        ({"with_text": False}, RecipeError, "bake labels in"),
        ({"labels": Path("/nonexistent/labels")}, LabelError, "can't be read"),
        ({"calibration": Path("/nonexistent")}, ImageError, "no image could be read|No such file"),
        ({"checkpoint": Path("/nonexistent")}, CheckpointError, "is not a folder"),
    ],
)
def test_bad_jobs_leave_nothing(
    checkpoint: Path, few_images: Path, tmp_path: Path, changes: dict[str, object], error: type[Exception], said: str
) -> None:
    job = ExportJob(**{"checkpoint": checkpoint, "out": tmp_path / "b", "calibration": few_images, **changes})  # type: ignore[arg-type]
    with pytest.raises(error, match=said):
        export_medsiglip(job)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_kept(bundle: Path, checkpoint: Path) -> None:
    before = (bundle / "manifest.json").read_bytes()
    with pytest.raises(StorageError, match="--force"):
        export_medsiglip(ExportJob(checkpoint, bundle))
    assert (bundle / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_export_leaves_no_bundle(
    checkpoint: Path, few_images: Path, tmp_path: Path, number: int
) -> None:
    words = ["export", "medsiglip", "--checkpoint", checkpoint, "--out", tmp_path / "b", "--calibration", few_images]
    process = subprocess.Popen(
        [sys.executable, "-m", "medge", *map(str, words)], stderr=subprocess.PIPE, text=True, preexec_fn=hears_ctrl_c
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".b.partial-*/onnx/*")):  # until the first tower is being written
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode != 0
    assert "Traceback" not in said
    assert not (tmp_path / "b").exists()
    if number == signal.SIGINT:
        assert list(tmp_path.iterdir()) == []


def test_a_failed_gate_is_written_and_refused(
    checkpoint: Path, few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights damaged after quantization: the parity suite sees it, marks the bundle, and the runtime obeys."""
    from medge.export.jobs import encoder as build
    from medge.runtime.errors import ParityGateError

    def damaged(graph: Graph, *rest: object) -> tuple[Graph, dict[str, object]]:
        small = graph.copy()
        name = next(linear.weight for linear in small.linears() if "layers.3.mlp.fc2" in linear.name)
        small.set_weight(name, small.array(name) * np.float32(0.2))
        return small, {}

    monkeypatch.setattr(build, "quantize", damaged)
    job = ExportJob(checkpoint, tmp_path / "b", "vision=int8,text=fp32", calibration=few_images)
    with monkeypatch.context() as patch:  # the text tower has no such block: give it back unharmed
        patch.setattr(
            build,
            "quantize",
            lambda g, *r: damaged(g) if "pixel_values" in str(g.model.graph.input) else (g.copy(), {}),
        )
        _, (report,) = export_medsiglip(job)
    assert report.status == "failed"
    assert {gate.figure for gate in report.gates if gate.passed is False} >= {"vision.centred_cosine.mean"}
    # Two hops: the exporter is not to blame, and the stage where the error enters is the damaged block.
    rows = {row["stage"]: row for row in report.stages["vision"]}
    assert max(row["pytorch_to_fp32"] for row in rows.values()) < EXACT_HOP["onnx"]
    assert rows["block 2"]["fp32_to_bundle"] < FP32_ROUNDING < rows["block 3"]["fp32_to_bundle"]
    with pytest.raises(ParityGateError, match="parity failed"):
        medge.load(tmp_path / "b")
    page = (tmp_path / "b" / "parity.html").read_text()
    assert "FAIL" in page


def test_the_page_is_self_contained(bundle: Path) -> None:
    page = (bundle / "parity.html").read_text()
    assert page.count("<svg") == 4  # two towers, scores, size and time
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")
    assert "<script" not in page


def test_builtin_samples_are_different_pictures() -> None:
    samples = builtin_samples()
    assert len(samples) >= 15
    assert len({image.tobytes() for image in samples.images}) == len(samples)


def test_parity_of_another_checkpoint_is_refused(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    from medge.export.jobs.encoder import measure_bundle
    from medge.runtime.bundles.bundle import Bundle

    other = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "note": "changed"}))
    with pytest.raises(CheckpointError, match="is not what .* was made from"):
        measure_bundle(Bundle.open(bundle), other, builtin_samples())
