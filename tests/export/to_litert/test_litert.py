"""LiteRT bundles: made, measured, checked, loaded and replayed; in the environment that `make test-litert` makes."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: pip install 'medge[litert]'")
pytest.importorskip("litert_torch", reason="litert-torch has an environment of its own: make test-litert")
from tolerances import EXACT_HOP, EXACT_REWRITE, FP32_EMBEDDING

import medge
from medge.export.families.full_precision import FullPrecision
from medge.export.jobs.encoder import export_medsiglip
from medge.export.jobs.encoder_job import ExportJob
from medge.export.to_litert.metadata import NAME, OWN
from medge.export.to_litert.towers import full_graph, short_name
from medge.quant.litert_graph.four_bit import pack_nibbles
from medge.quant.litert_graph.graph import Graph, schema
from medge.quant.litert_graph.pad import pad_hidden
from medge.quant.recipes.litert import LITERT_RECIPES
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.bundles.parity_report import EncoderReport, ParityReport
from medge.runtime.device.litert.flatbuffer import Kind, Source
from medge.runtime.device.litert.outline import FLOAT32, INT32, OPERATORS, Called, check_litert
from medge.runtime.device.litert.session import LiteRTSession
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.encoder.litert import LiteRTEncoder
from medge.runtime.errors import BundleError, MissingExtraError, RecipeError
from medge.runtime.golden.encoder import replay


@pytest.fixture(scope="module")
def made(
    once: Callable[..., Path], short: Path, short_full: FullPrecision, few_images: Path, labels_file: Path
) -> Callable[[str], Path]:
    """Bundles by recipe, each made and measured once; benchmarks/litert.py has the whole stand-in."""

    def write(recipe: str, out: Path) -> None:
        job = ExportJob(short, out, recipe, formats=("litert",), calibration=few_images, labels=labels_file)
        export_medsiglip(job, full=short_full)

    return lambda recipe: once(f"litert/{recipe}", lambda out: write(recipe, out))


@pytest.fixture
def vision(made: Callable[[str], Path]) -> Path:
    """A tower's file."""
    return made("int8") / "litert" / "vision_model_int8.tflite"


@pytest.fixture
def graph(vision: Path) -> Graph:
    return Graph.read(vision.read_bytes())


@pytest.mark.parametrize("recipe", sorted(LITERT_RECIPES))
def test_every_recipe_keeps_its_promise(made: Callable[[str], Path], recipe: str) -> None:
    folder = made(recipe)
    bundle = Bundle.open(folder)  # its status is "passed"
    report = ParityReport.read(folder / "litert" / "parity.json")
    assert isinstance(report, EncoderReport)
    assert {gate.figure: gate.passed for gate in report.gates if gate.value is not None} == {
        gate.figure: True for gate in report.gates if gate.figure != "scores.auc_difference"
    }
    for tower, rows in report.stages.items():
        first = "token embedding" if tower == "text" else "patch embedding"
        assert [row.stage for row in rows] == [first, "block 0", "block 1", "pooled"]
        assert all(row.pytorch_to_fp32 < EXACT_HOP["litert"] for row in rows)
    assert report.machine["engine"].startswith("LiteRT ")
    assert all(holds for _, _, _, holds in replay(LiteRTEncoder(bundle)))
    assert bundle.manifest.status == "passed"
    assert bundle.manifest.parity_page == "litert/parity.html"


def test_a_bundle_of_litert_files_is_loaded_and_used(made: Callable[[str], Path], short_full: FullPrecision) -> None:
    encoder = medge.load(made("fp32"), threads=1)
    assert type(encoder) is LiteRTEncoder
    rng, side = np.random.default_rng(0), encoder.facts.image_size
    pixels = rng.uniform(-1, 1, (3, 3, side, side)).astype(np.float32)
    ids = rng.integers(2, encoder.facts.vocabulary, (3, encoder.facts.tokenizer.length))
    reference = short_full.reference
    np.testing.assert_allclose(
        encoder.embed_pixels(pixels), reference.images(pixels).embedding, rtol=0, atol=FP32_EMBEDDING
    )
    np.testing.assert_allclose(encoder.embed_ids(ids), reference.texts(ids).embedding, rtol=0, atol=FP32_EMBEDDING)
    alone = np.concatenate([encoder.embed_pixels(pixels[index : index + 1]) for index in range(3)])
    assert (encoder.embed_pixels(pixels) == alone).all()
    again = medge.load(made("fp32"), threads=2)
    assert again.fingerprint == encoder.fingerprint != medge.load(made("int8")).fingerprint
    assert again.classify(np.zeros((40, 30, 3), np.uint8))[0].best in encoder.manifest.labels
    with pytest.raises(RecipeError, match="run on the CPU"):
        LiteRTEncoder(encoder.bundle, device="cuda")


def test_sizes(made: Callable[[str], Path], short_full: FullPrecision) -> None:
    """A weight takes a quarter in 8 bits, an eighth and a scale of 16 bits for 32 in 4; the table 8 bits in both."""
    size = {}
    for recipe in LITERT_RECIPES:
        bundle = Bundle.open(made(recipe))
        size[recipe] = {tower: bundle.tower_bytes(facts) for tower, facts in bundle.manifest.towers.items()}
    for tower in ("vision", "text"):
        full, half, eight, four = (size[name][tower] for name in ("fp32", "fp16", "int8", "int4"))
        assert 0.5 < half / full < 0.53
        assert (
            0.25 < eight / full < (0.42 if tower == "vision" else 0.27)
        )  # the positions and the patches stay in 32 bits
        assert four < eight


def test_beside_onnx_the_runtime_opens_onnx(
    short: Path, short_full: FullPrecision, few_images: Path, tmp_path: Path
) -> None:
    job = ExportJob(
        short, tmp_path / "both", "fp32", formats=("onnx", "litert"), litert_recipe="int8", calibration=few_images
    )
    bundle, reports = export_medsiglip(job, full=short_full)
    assert bundle.manifest.opened == "onnx"
    assert {form: artefact.recipes["vision"] for form, artefact in bundle.manifest.artefacts.items()} == {
        "onnx": "fp32", "litert": "int8",
    }  # fmt: skip
    assert {report.status for report in reports.values()} == {"passed"}
    onnx, litert = Encoder(bundle), LiteRTEncoder(bundle)
    assert onnx.fingerprint != litert.fingerprint
    assert bundle.manifest.parity_page == "parity.html"
    for encoder in (onnx, litert):
        assert all(holds for _, _, _, holds in replay(encoder))
    (job.out / "litert" / "text_model_int8.tflite").write_bytes(b"")
    with pytest.raises(BundleError, match="text_model_int8.tflite has 0 bytes"):
        medge.load(job.out)


def test_what_tools_read(made: Callable[[str], Path]) -> None:
    """TensorFlow Lite's metadata by its public schema, here read by medge's own reader of flatbuffers."""
    folder = made("fp32")
    manifest = Bundle.open(folder).manifest
    graph = Graph.read((folder / manifest.towers["vision"].file).read_bytes())
    found = {entry.name.decode(): bytes(graph.model.buffers[entry.buffer].data) for entry in graph.model.metadata}
    assert json.loads(found[OWN])["labels"] == json.dumps(list(manifest.labels))
    scaling = Kind("normalisation", {0: ("mean", "[f32]"), 1: ("deviation", "[f32]")})
    unit = Kind("unit", {0: ("type", "u8"), 1: ("options", scaling)})
    size = Kind("size", {0: ("width", "u32"), 1: ("height", "u32")})
    image = Kind("image", {0: ("colours", "u8"), 1: ("size", size)})
    content = Kind("content", {0: ("type", "u8"), 1: ("properties", image)})
    tensor = Kind("tensor", {0: ("name", "text"), 1: ("text", "text"), 3: ("content", content), 4: ("units", (unit,))})
    inside = Kind("graph", {2: ("inputs", (tensor,)), 3: ("outputs", (tensor,))})
    model = Kind("model", {
        0: ("name", "text"), 1: ("text", "text"), 3: ("graphs", (inside,)), 4: ("author", "text"), 5: ("licence", "text"),
        7: ("parser", "text"),
    })  # fmt: skip
    source = Source(found[NAME], 100)
    told = source.root(model)
    assert found[NAME][4:8] == b"M001"
    assert (told["author"], told["licence"]) == ("medge", manifest.licence)
    ((given,), (given_out,)) = told["graphs"][0]["inputs"], told["graphs"][0]["outputs"]
    assert (given["name"], given_out["name"]) == ("pixel_values", "pooler_output")
    side = manifest.encoder.image_size
    assert given["content"]["properties"] == {"colours": 1, "size": {"width": side, "height": side}}
    (how,) = given["units"]
    assert source.numbers("f32", how["options"]["mean"]) == (127.5,) * 3  # (grey level - 127.5) / 127.5
    assert source.numbers("f32", how["options"]["deviation"]) == (127.5,) * 3
    assert not [
        name for name in (one.name.decode() for one in graph.tensors) if "siglip" in name.lower() or "medge" in name
    ]


def test_padding_is_exact(short_full: FullPrecision) -> None:
    exact = full_graph(short_full, "vision")
    padded = exact.copy()
    assert pad_hidden(padded, 256) == 3  # two blocks, and the pooling head
    side, (output, *_) = short_full.reference.facts.image_size, exact.outputs
    pixels = np.random.default_rng(1).uniform(-1, 1, (1, 3, side, side)).astype(np.float32)
    ours, theirs = (LiteRTSession(one.content()).run([output], {"pixel_values": pixels})[0] for one in (padded, exact))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=EXACT_REWRITE)


def test_nibbles() -> None:
    levels = np.arange(-8, 8, dtype=np.int8).reshape(2, 8)
    packed = pack_nibbles(levels)
    both = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1).astype(np.int8)
    assert ((both ^ 8) - 8 == levels.reshape(-1)).all()


def test_names_without_classes() -> None:
    long = "medge.export.to_litert.towers._Tower/a.b.SiglipEncoder_encoder/a.SiglipEncoderLayer_0/torch.nn.Linear_fc1;2"
    assert short_name(long) == "encoder/0/fc1;2"
    assert short_name("stage/block 0") == "stage/block 0"


def test_the_table_of_operators_is_what_exports_hold(made: Callable[[str], Path]) -> None:
    found = set()
    for recipe in LITERT_RECIPES:
        for path in (made(recipe) / "litert").glob("*.tflite"):
            outline = check_litert(path)
            found |= set(outline.operators)
            assert 0.9 * path.stat().st_size < outline.constants < path.stat().st_size
    assert found == {name for name, _, _ in OPERATORS.values()}


def _foreign(graph: Graph) -> None:
    graph.operators[3].opcodeIndex = graph.operator_code(schema.BuiltinOperator.WHILE, 1)


def _custom(graph: Graph) -> None:
    graph.model.operatorCodes[0].customCode = b"Evil"


def _two(graph: Graph) -> None:
    graph.model.subgraphs.append(graph.model.subgraphs[0])


def _short_constant(graph: Graph) -> None:
    weight = graph.tensors[graph.linears()[0].weight]
    graph.model.buffers[weight.buffer].data = np.zeros(3, np.uint8)


def _ahead(graph: Graph) -> None:
    graph.operators[0].inputs = graph.operators[-1].outputs


def _over(graph: Graph) -> None:
    graph.operators[-1].outputs = graph.operators[0].outputs


def _no_tensor(graph: Graph) -> None:
    graph.operators[-1].inputs = np.array([1_000_000], np.int32)


def _huge(graph: Graph) -> None:
    graph.set_shape(int(graph.operators[0].outputs[0]), (1 << 16, 1 << 16))


def _options(graph: Graph) -> None:
    gelu = next(one for one in graph.operators if graph.kind(one) == schema.BuiltinOperator.GELU)
    gelu.builtinOptionsType = schema.BuiltinOptions.WhileOptions


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_foreign, "the operator 119"), (_custom, "a kind of operator with field 1"), (_two, "not one graph"),
        (_short_constant, "has 3 bytes, its shape takes"), (_ahead, "reads what is not there yet"),
        (_over, "over something"), (_no_tensor, "reads what is not there"), (_huge, r"shape \(65536, 65536\)"),
        (_options, "options of another operator"),
    ],
)  # fmt: skip
def test_a_file_that_medge_never_wrote(graph: Graph, spoil: Callable[[Graph], None], said: str, tmp_path: Path) -> None:
    path = tmp_path / "spoiled.tflite"
    spoil(graph)
    path.write_bytes(graph.content())
    with pytest.raises(BundleError, match=f"no LiteRT file of medge: .*{said}") as refused:
        LiteRTSession(path)
    assert str(refused.value).count("\n") == 0


def test_a_file_that_is_called_otherwise(vision: Path) -> None:
    outline = check_litert(vision)
    assert outline.inputs == {"pixel_values": (FLOAT32, (1, 3, 196, 196))}
    with pytest.raises(
        BundleError, match="it takes 'pixel_values' 1x3x196x196 of type 0, the manifest says 'input_ids'"
    ):
        check_litert(vision, Called({"input_ids": (INT32, (1, 64))}, outline.outputs))


def _changed(content: bytes, rng: random.Random) -> Iterator[bytes]:
    """Cut off, and with bytes changed where no weights lie: a model's tables end its file."""
    for _ in range(40):
        yield content[: rng.randrange(len(content))]
    for _ in range(400):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            changed[rng.choice([rng.randrange(64), rng.randrange(len(content) - 60_000, len(content))])] = (
                rng.randrange(256)
            )
        yield bytes(changed)


def test_changed_files_are_refused_in_one_sentence(vision: Path, tmp_path: Path) -> None:
    path, refused = tmp_path / "changed.tflite", 0
    for content in _changed(vision.read_bytes(), random.Random(0)):
        path.write_bytes(content)
        try:
            check_litert(path)
        except BundleError:  # and nothing else
            refused += 1
    assert refused > 100


def test_without_the_engine(made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'medge\[litert\]'"):
        _ = medge.load(made("fp32")).vision


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"merge": 2}, "merges no patches"),
        ({"maps": True}, "--maps is an output of the ONNX"),
        ({"recipe": "w8"}, "no LiteRT"),
    ],
)
def test_refused(short: Path, tmp_path: Path, asked: dict, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        export_medsiglip(ExportJob(short, tmp_path / "out", **{"recipe": "int8", "formats": ("litert",), **asked}))


def test_a_folder_can_be_carried(made: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(made("int4"), tmp_path / "carried")
    assert medge.load(tmp_path / "carried").manifest.opened == "litert"
