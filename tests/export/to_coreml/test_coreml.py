"""CoreML packages: exact rewriting, every recipe within its gates, inputs, errors. Computed by our evaluator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import command_line
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from siglip_checkpoints import first_blocks
from tolerances import EXACT_HOP, FP16_PACKAGE, FP32_SUMS, FP32_TOWER

import medge
from medge.export.families.full_precision import FullPrecision
from medge.export.families.siglip import Reference
from medge.export.jobs.encoder import export_medsiglip
from medge.export.jobs.encoder_job import ExportJob
from medge.export.to_coreml.mil.evaluator import Program, residual_names
from medge.export.to_coreml.neural_engine import TextTower, VisionTower
from medge.export.to_coreml.options import PackageOptions
from medge.export.to_coreml.precision import fp32_operations, selector
from medge.export.to_coreml.quietly import coremltools, quiet
from medge.export.to_coreml.session import PackageEncoder
from medge.export.to_coreml.write import IMAGE, OUTPUT, convert, rewrite, save, trace, with_weights
from medge.quant.recipes.coreml import COREML_RECIPES, GROUP
from medge.quant.recipes.recipe import part_gates
from medge.quant.rounding.palettize import Layer, choose_bits, cluster, palette_bytes, palettize
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.errors import BundleError, RecipeError
from medge.runtime.pictures.images import read_image


@pytest.fixture(scope="module")
def pixels(reference: Reference) -> np.ndarray:
    """Four inputs whose values are grey levels, as those of images are."""
    side = reference.model.config.vision_config.image_size
    levels = np.random.default_rng(3).integers(0, 256, (4, 3, side, side))
    return ((levels / 255 - 0.5) / 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def ids(reference: Reference) -> np.ndarray:
    text = reference.model.config.text_config
    return np.random.default_rng(4).integers(0, text.vocab_size, (4, text.max_position_embeddings))


@pytest.fixture(scope="module")
def packages(
    once: Callable[..., Path], short: Path, short_full: FullPrecision, few_images: Path, labels_file: Path
) -> Callable[[str], Path]:
    """Bundles with CoreML packages by recipe, each made and measured once; benchmarks/coreml_parity.py has the whole stand-in."""

    def write(recipe: str, out: Path) -> None:
        job = ExportJob(short, out, recipe, formats=("coreml",), calibration=few_images, labels=labels_file)
        export_medsiglip(job, full=short_full)

    return lambda recipe: once(f"packages/{recipe}", lambda out: write(recipe, out))


@torch.inference_mode()
def test_rewritten_towers_compute_the_same(reference: Reference, pixels: np.ndarray, ids: np.ndarray) -> None:
    vision, text = reference.model.vision_model, reference.model.text_model
    exact = vision(pixel_values=torch.from_numpy(pixels)).pooler_output
    levels = torch.from_numpy(np.rint(pixels * 127.5 + 127.5))
    for block in (1, 32):  # padded hidden widths, too
        plain = VisionTower(vision, from_image=False, block=block).eval()(torch.from_numpy(pixels))
        torch.testing.assert_close(plain, exact, **FP32_TOWER)
        from_image = VisionTower(vision, from_image=True, block=block).eval()(levels / 128 - 1)
        torch.testing.assert_close(from_image, exact, **FP32_TOWER)
        words = TextTower(text, block=block).eval()(torch.from_numpy(ids.astype(np.int32)))
        torch.testing.assert_close(words, text(input_ids=torch.from_numpy(ids)).pooler_output, **FP32_TOWER)


@pytest.mark.parametrize("ios", [17, 18])
def test_full_precision_packages_equal_pytorch(
    reference: Reference, pixels: np.ndarray, ios: int, tmp_path: Path
) -> None:
    """Of two blocks; each recipe's test compares all of them, stage by stage."""
    vision = first_blocks(reference.model.vision_model, 2)
    side = vision.config.image_size
    with torch.inference_mode():
        exact = vision(pixel_values=torch.from_numpy(pixels)).pooler_output.numpy()
    image = PackageOptions(ios=ios)

    def package(options: PackageOptions) -> Program:
        graph = trace(rewrite(vision, "vision", options), "vision", side, options)
        return Program(save(convert(graph, "vision", side, options), tmp_path / f"{options.batches}.mlpackage"))

    program = package(image)
    levels = np.rint(pixels * 127.5 + 127.5).astype(np.float32)
    found = [program.run([OUTPUT], {IMAGE: levels[index : index + 1]})[0] for index in range(4)]
    np.testing.assert_allclose(np.concatenate(found), exact, **FP32_TOWER)
    # Batches: enumerated sizes, and one by one what they give together.
    tensor = PackageOptions(ios=ios, image_input=False, batches=(1, 4))
    program = package(tensor)
    assert program.package.inputs[0].shapes == ((1, 3, side, side), (4, 3, side, side))
    together = program.run([OUTPUT], {"pixel_values": pixels})[0]
    np.testing.assert_allclose(together, exact, **FP32_TOWER)
    alone = program.run([OUTPUT], {"pixel_values": pixels[:1]})[0]
    np.testing.assert_allclose(alone, together[:1], rtol=FP32_SUMS, atol=FP32_SUMS)
    with pytest.raises(BundleError, match="takes"):
        program.run([OUTPUT], {"pixel_values": pixels[:3]})
    assert len(residual_names(program)) == 1 + vision.config.num_hidden_layers


def test_a_traced_tower_takes_other_weights(reference: Reference, ids: np.ndarray, tmp_path: Path) -> None:
    """Recipes that change weights use the graph of those that don't."""
    options = PackageOptions()
    graph = trace(TextTower(first_blocks(reference.model.text_model, 1)), "text", ids.shape[1], options)
    other = TextTower(first_blocks(reference.model.text_model, 1)).eval()
    with torch.inference_mode():
        for tensor in other.state_dict().values():
            tensor.mul_(0.9)
        expected = other(torch.from_numpy(ids[:1].astype(np.int32))).numpy()
    program = Program(
        save(convert(with_weights(graph, other), "text", ids.shape[1], options), tmp_path / "o.mlpackage")
    )
    found = program.run([OUTPUT], {"input_ids": ids[:1].astype(np.int32)})[0]
    np.testing.assert_allclose(found, expected, **FP32_TOWER)


def test_the_form_that_the_neural_engine_likes(packages: Callable[[str], Path]) -> None:
    """No copies between layers: nothing but 1x1 convolutions, channel norms and per-head products on (B, C, 1, S)."""
    kinds = {op.kind for op in Program(packages("fp16") / "coreml/MedgeVision.mlpackage").operations}
    assert kinds <= {"cast", "mul", "add", "conv", "reshape", "expand_dims", "layer_norm", "split", "transpose", "einsum",
                     "softmax", "concat", "gelu"}  # fmt: skip


def test_why_gelu_is_written_out(tmp_path: Path) -> None:
    """coremltools 9.0 makes the exact GELU of torch's tanh one. When this fails, it is mended: use torch's again."""

    class Tanh(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.gelu(x, approximate="tanh")

    program = torch.export.export(Tanh(), (torch.zeros(1, 8),)).run_decompositions({})
    with quiet():
        coremltools().convert(program, minimum_deployment_target=coremltools().target.iOS17).save(
            str(tmp_path / "g.mlpackage")
        )
    opened = Program(tmp_path / "g.mlpackage")
    modes = [opened._constants[op.inputs["mode"][0].text] for op in opened.operations if op.kind == "gelu"]
    assert modes == ["EXACT"]


@pytest.mark.parametrize("recipe", sorted(COREML_RECIPES))
def test_recipes_pass_their_gates(packages: Callable[[str], Path], recipe: str) -> None:
    bundle = Bundle.open(packages(recipe), allow_failed_parity=True)
    artefact = bundle.manifest.artefacts["coreml"]
    assert artefact.parity is not None
    gates = artefact.parity.gates
    assert [gate for gate in gates if gate.passed is False] == []
    demanded = {gate.figure for tower in artefact.towers for gate in part_gates(tower, COREML_RECIPES[recipe])}
    assert demanded
    assert demanded <= {gate.figure for gate in gates if gate.passed}  # measured, each of them
    assert artefact.recipes == {"vision": recipe, "text": recipe}
    stages = json.loads((packages(recipe) / "coreml/parity.json").read_text())["stages"]["vision"]
    # The conversion is exact; what is lost, the recipe loses.
    assert max(row["pytorch_to_fp32"] for row in stages) < EXACT_HOP["coreml"]
    assert all(row["fp32_to_bundle"] > 0 for row in stages)


@pytest.mark.parametrize("recipe", [name for name, recipe in COREML_RECIPES.items() if recipe.ios == 17])
def test_recipes_for_ios_17(
    short: Path, short_full: FullPrecision, few_images: Path, labels_file: Path, recipe: str, tmp_path: Path
) -> None:
    """The older system keeps compressed weights in another form."""
    job = ExportJob(short, tmp_path / "b", recipe, formats=("coreml",), calibration=few_images, labels=labels_file,
                    package=PackageOptions(ios=17), with_text=False)  # fmt: skip
    bundle, reports = export_medsiglip(job, full=short_full)
    assert reports["coreml"].status == "passed"
    program = Program(bundle.folder / "coreml/MedgeVision.mlpackage")
    assert program.package.opset == "CoreML7"
    assert program.package.spec.specificationVersion == 8  # iOS 17, by coremltools' own table


def test_smaller_recipes_are_smaller(packages: Callable[[str], Path]) -> None:
    bundles = {name: Bundle.open(packages(name)) for name in COREML_RECIPES}
    size = {
        name: bundle.tower_bytes(bundle.manifest.artefacts["coreml"].towers["vision"])
        for name, bundle in bundles.items()
    }
    # Half of 16 bits, and what stays in 16: tables or scales, norms, biases and positions, much of a tower this small.
    assert size["palette4"] < size["palette6"] < size["palette8"] < 0.65 * size["fp16"]
    assert size["w4"] < size["w8"] < 0.6 * size["fp16"]


def test_packages_say_what_they_are(packages: Callable[[str], Path], labels_file: Path) -> None:
    folder = packages("fp16")
    program = Program(folder / "coreml/MedgeVision.mlpackage")
    facts = program.package.metadata
    assert facts["medge.profile"] == "eval-tf"
    assert json.loads(facts["medge.labels"]) == list(Manifest.read(folder).labels)
    assert "Not a medical device" in facts["license"]
    assert facts["author"] == "medge"
    assert program.package.inputs[0].is_image
    tower = Manifest.read(folder).artefacts["coreml"].towers["vision"]
    assert (tower.inputs, tower.output) == ((program.package.inputs[0].name,), program.package.outputs[0])
    assert not list(folder.rglob("executorch*"))  # it would hold paths of the exporting machine
    text = "".join(path.read_text(errors="ignore") for path in folder.rglob("*.json"))
    assert str(Path.home()) not in text


def test_swift_package_lies_beside_it(packages: Callable[[str], Path], few_images: Path) -> None:
    folder = packages("fp16") / "coreml"
    bank = json.loads((folder / "bank.json").read_text())
    golden = json.loads((folder / "MedgeKit/Tests/MedgeKitTests/golden.json").read_text())
    encoder = PackageEncoder(Bundle.open(packages("fp16")))
    assert np.asarray(bank["embeddings"]).shape == (len(bank["labels"]), len(golden["embedding"]))
    assert np.linalg.norm(golden["embedding"]) == pytest.approx(1, abs=FP32_SUMS)
    written = {path.name for path in (folder / "MedgeKit").rglob("*") if path.is_file()}
    assert written == {
        "Package.swift", "Classifier.swift", "Decisions.swift", "Preprocess.swift", "SafeTensors.swift", "MedgeKit.md",
        "DecisionsTests.swift", "GoldenTests.swift", "golden.json", "decisions.json",
    }  # fmt: skip
    tower = encoder.towers["vision"]
    assert (bank["input"], bank["output"], golden["leastCosine"]) == (IMAGE, OUTPUT, tower.golden.cosine)
    # The bank classifies as the runtime does.
    image = read_image(few_images / "CT_small.dcm")
    cosines = np.asarray(bank["embeddings"]) @ encoder.embed_pixels(encoder.prepare(image)[None])[0]
    assert bank["labels"][int(cosines.argmax())] == encoder.classify(image)[0].best


def test_targets_that_are_too_old_and_other_wrong_wishes(
    short: Path, short_full: FullPrecision, few_images: Path, tmp_path: Path
) -> None:
    def refused(words: str, **wish: object) -> None:
        job = ExportJob(short, tmp_path / "x", formats=("coreml",), calibration=few_images, **wish)  # type: ignore[arg-type] - any wish
        with pytest.raises(RecipeError, match=words):
            export_medsiglip(job, full=short_full)

    refused(r"'w4' needs iOS 18 \(say --ios 18\), not 17", recipe="w4", package=PackageOptions(ios=17))
    refused("no iOS target 16", package=PackageOptions(ios=16))
    refused("no CoreML recipe 'int8'", recipe="int8")
    refused("target-size chooses bits for palettes", recipe="w8", package=PackageOptions(target_size=10**6))
    refused("too small a size", recipe="palette4", package=PackageOptions(target_size=1000))
    with pytest.raises(RecipeError, match="no format 'tflite'"):
        export_medsiglip(ExportJob(short, tmp_path / "x", formats=("tflite",)))
    assert not (tmp_path / "x").exists()


def test_this_runtime_says_that_packages_are_for_apple(packages: Callable[[str], Path]) -> None:
    with pytest.raises(BundleError, match=r"CoreML packages only, for Macs, iPhones and iPads; .* --format onnx"):
        medge.load(packages("fp16"))


def test_both_formats_in_one_bundle(checkpoint: Path, few_images: Path, labels_file: Path, tmp_path: Path) -> None:
    """Of the whole stand-in, within the gates."""
    tensors = load_file(checkpoint / "model.safetensors")
    # Between what palettes of four and of eight bits take.
    wish = int(0.7 * sum(tensor.size for name, tensor in tensors.items() if name.startswith("vision_model")))
    command_line.medge(
        "export", "medsiglip", "--checkpoint", checkpoint, "--out", tmp_path / "both", "--format", "onnx,coreml",
        "--recipe", "fp32", "--coreml-recipe", "palette4", "--calibration", few_images, "--labels", labels_file,
        "--target-size", f"{wish / 1e6:.3f}MB", "--without-text",
    )  # fmt: skip
    bundle = Bundle.open(tmp_path / "both")
    assert [artefact.parity is not None for artefact in bundle.manifest.artefacts.values()] == [True, True]
    weights = tmp_path / "both/coreml/MedgeVision.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    assert 0.92 * wish < weights.stat().st_size <= 1.01 * wish  # the wish, and what each constant takes for its place
    parity = command_line.medge("parity", tmp_path / "both", "--reference", checkpoint, "--json")
    assert [facts["status"] for facts in json.loads(parity.stdout)["results"]] == ["passed", "passed"]
    assert "coreml, vision" in command_line.medge("inspect", tmp_path / "both").stdout
    command_line.medge("verify", tmp_path / "both")


def test_overflow_and_drift_are_found_and_kept_in_fp32(tmp_path: Path) -> None:
    """A layer whose sum leaves fp16, and one whose difference fp16 can't hold; the package is right all the same."""

    class Awkward(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.big = torch.nn.Conv2d(3, 4, 1)
            self.small = torch.nn.Conv2d(4, 4, 1)
            torch.nn.init.constant_(self.big.weight, 9000.0)
            torch.nn.init.constant_(self.small.weight, 1e-4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.small(self.big(x + 1))
            return ((x + 1000.0) - 1000.0).flatten(1) + y.flatten(1)[:, : x.numel() // len(x)]

    options = PackageOptions(image_input=False)
    module = Awkward().eval()
    inputs = [np.random.default_rng(0).random((1, 3, 8, 8), np.float32)]
    graph = trace(module, "vision", 8, options)
    full = Program(save(convert(graph, "vision", 8, options), tmp_path / "full.mlpackage"))
    kept = fp32_operations(full, inputs)
    assert any(reason.startswith("reaches") for reason in kept.values())
    assert any(reason.startswith("drifts") for reason in kept.values())
    half = Program(save(convert(graph, "vision", 8, options, half=selector(kept)), tmp_path / "half.mlpackage"))
    exact = full.run([OUTPUT], {"pixel_values": inputs[0]})[0]
    found = half.run([OUTPUT], {"pixel_values": inputs[0]})[0]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, exact, **FP16_PACKAGE)


def test_weighted_clustering() -> None:
    """No worse than scikit-learn's k-means with the same weights, and few values; important ones are kept best."""
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(0)
    values = rng.normal(size=4000).astype(np.float32)
    weights = rng.random(4000).astype(np.float32)
    found = cluster(values, weights, 16)
    assert len(np.unique(found)) <= 16
    error = float((weights * (found - values) ** 2).sum())
    other = KMeans(16, n_init=3, random_state=0).fit(values[:, None], sample_weight=weights)
    assert error <= 1.03 * other.inertia_  # the best of three starts, against our one
    np.testing.assert_array_equal(cluster(np.full(9, 0.1, np.float32), weights[:9], 16), np.float32(np.float16(0.1)))
    moments = np.where(np.arange(64) < 2, 100.0, 0.01).astype(np.float32)
    weight = rng.normal(size=(GROUP, 64)).astype(np.float32)
    lost = np.abs(palettize(weight, moments, 4, GROUP) - weight)[:, :2].mean()
    blind = np.abs(palettize(weight, np.ones(64, np.float32), 4, GROUP) - weight)[:, :2].mean()
    assert lost < 0.5 * blind  # of 64 channels two count: their error at least halves


def test_bits_go_where_they_matter() -> None:
    rng = np.random.default_rng(0)
    shape = (64, 64)
    layers = {
        name: Layer(rng.normal(size=shape).astype(np.float32), np.ones(64, np.float32), sensitivity)
        for name, sensitivity in (("dull", 1.0), ("keen", 1000.0))
    }
    budget = palette_bytes(shape, 4, GROUP) + palette_bytes(shape, 8, GROUP)
    assert choose_bits(layers, budget, GROUP) == {"dull": 4, "keen": 8}
