"""MedGemma's tower as ONNX: the tokens of an image as PyTorch makes them, whatever was merged on the way."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tolerances import EXACT_HOP, FP16_IMAGE_LOGITS, FP32_IMAGE_TOKENS
from torch import nn

pytest.importorskip("llama_cpp", reason="llama_cpp is not installed: pip install 'medge[llm]'")

from medge.export.families.gemma3 import open_gemma
from medge.export.families.generator_reference import GeneratorReference
from medge.export.families.transformers_versions import features
from medge.export.jobs.generator import export_medgemma
from medge.export.jobs.generator_job import GeneratorJob
from medge.export.pages.parity import render_parity
from medge.export.source.samples import builtin_samples
from medge.export.standin.medgemma_mini import IMAGE_TOKENS
from medge.export.standin.medsiglip.architecture import SIDE
from medge.export.to_onnx.image_tokens import SIGNATURE, ImageTokens, load_tower, most_merged, squares
from medge.export.to_onnx.towers import export_tower
from medge.quant.recipes.onnx import ONNX_RECIPES
from medge.runtime.bundles.bundle import Bundle
from medge.runtime.bundles.parity_report import ParityReport
from medge.runtime.device.onnx_session import OrtSession
from medge.runtime.errors import BundleError, CheckpointError, RecipeError
from medge.runtime.generator.conversation import Sampling, user
from medge.runtime.generator.engine import Engine
from medge.runtime.generator.image_tower import IMAGE_FEATURES, OnnxTower
from medge.runtime.generator.load import load
from medge.runtime.generator.prompt import Picture
from medge.runtime.golden.generator import replay_answers
from medge.runtime.golden.phantom import phantom
from medge.runtime.pictures.preprocess import get_profile, normalise_pixels


@pytest.fixture(scope="module")
def parts(gemma: Path) -> tuple[object, nn.Module]:
    return load_tower(open_gemma(gemma))


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    """Real images: a drawn one has patches so alike that rounding decides which of them are merged."""
    return torch.from_numpy(np.concatenate(builtin_samples().inputs("finetune-pil", SIDE, 6)))


@torch.inference_mode()
def test_nothing_merged_is_the_model_itself(gemma: Path, parts: tuple, pixels: torch.Tensor) -> None:
    expected = features(GeneratorReference(gemma).model.model.get_image_features(pixels))
    torch.testing.assert_close(ImageTokens(*parts, 0)(pixels), expected, **FP32_IMAGE_TOKENS)


@torch.inference_mode()
def test_squares_average_as_the_projector_does() -> None:
    x = torch.randn(1, 64, 3, generator=torch.Generator().manual_seed(0))
    pooled = nn.AvgPool2d(2)(x.transpose(1, 2).reshape(1, 3, 8, 8)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(squares(8, 2).T @ x / 4, pooled)


@pytest.mark.parametrize("merged", [1, 5, 9])
@torch.inference_mode()
def test_pooling_is_over_the_patches_of_before(parts: tuple, pixels: torch.Tensor, merged: int) -> None:
    """Follow each patch by itself, put what became of it back in its place, and let the projector go on from there."""
    tower, projector = parts
    model = ImageTokens(tower, projector, merged)
    x = model.embeddings(pixels)
    each = torch.eye(x.shape[1]).expand(len(x), -1, -1)
    x, whose = model.encoder(x, each)
    assert x.shape[1] == model.tokens
    assert set(whose.unique().tolist()) == {0.0, 1.0}
    assert (whose.sum(1) == 1).all()  # every patch is in one token
    spread = whose.transpose(1, 2) @ tower.post_layernorm(x)
    torch.testing.assert_close(model(pixels), projector(spread), **FP32_IMAGE_TOKENS)


# The more blocks merge, the more often two patches are equally near: after twelve no image is left to compare.
@pytest.mark.parametrize(("merged", "blocks"), [(0, 12), (4, 3)])
@torch.inference_mode()
def test_the_export_computes_the_same(parts: tuple, pixels: torch.Tensor, merged: int, blocks: int) -> None:
    tower, projector = copy.deepcopy(parts)
    assert len(tower.encoder.layers) >= blocks
    del tower.encoder.layers[blocks:]
    model = ImageTokens(tower, projector, merged)
    expected = model(pixels)
    # Where two patches are equally near, rounding decides which is merged, and another library rounds otherwise: such an image
    # says nothing of the export. PyTorch itself answers otherwise there when its pixels move by less than a grey level's 2000th.
    noise = torch.Generator().manual_seed(0)
    nudged = [model(pixels + 4e-6 * torch.randn(pixels.shape, generator=noise)) for _ in range(6)]
    decided = torch.stack([(expected - other).abs().amax((1, 2)) < 5e-4 for other in nudged]).all(0).numpy()
    assert decided.sum() >= 3
    session = OrtSession(export_tower(model, SIGNATURE).model.SerializeToString(), device="cpu")
    (found,) = session.run([IMAGE_FEATURES], {"pixel_values": pixels.numpy()})
    np.testing.assert_allclose(found[decided], expected.numpy()[decided], **FP32_IMAGE_TOKENS)


def test_looser_gates_allow_more(parts: tuple, pixels: torch.Tensor) -> None:
    inputs = [pixels.numpy()]
    fast, turbo = (most_merged(*parts, ONNX_RECIPES[name], inputs) for name in ("fast", "turbo"))
    assert fast <= turbo  # how much the stricter gate leaves is the tower's own matter
    assert turbo > 0


def test_a_lost_tensor_is_named(tiny_gemma: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(tiny_gemma, tmp_path / "g"))
    for shard in copy.glob("*.safetensors"):
        tensors = load_file(shard)
        if tensors.pop("multi_modal_projector.mm_soft_emb_norm.weight", None) is not None:
            save_file(tensors, shard, metadata={"format": "pt"})
    index = copy / "model.safetensors.index.json"
    body = json.loads(index.read_text())
    body["weight_map"].pop("multi_modal_projector.mm_soft_emb_norm.weight")
    index.write_text(json.dumps(body))
    with pytest.raises(CheckpointError, match=r"lack multi_modal_projector.mm_soft_emb_norm.weight"):
        load_tower(open_gemma(copy))


# Bundles of the tiny random model: 16 patches, four tokens.


@pytest.fixture(scope="module")
def merged_reader(tiny_gemma: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("readers") / "merged"
    job = GeneratorJob(tiny_gemma, out, "language=f16,projector=fp32", merge=2, target="avx2", skip_parity=True)
    export_medgemma(job)
    return out


def test_a_merged_bundle(merged_reader: Path, tiny_gemma: Path) -> None:
    manifest = Bundle.open(merged_reader, allow_failed_parity=True).manifest
    facts = manifest.towers["projector"]
    assert facts.file == "onnx/vision_encoder.onnx"
    assert facts.decisions == {"merged_tokens_a_block": 2, "tokens_left": 12}
    assert manifest.target == "avx2"
    assert "vision tower in ONNX" in manifest.source.target_reason
    assert not list(merged_reader.glob("mmproj*"))
    assert ".onnx" not in (merged_reader / "Modelfile").read_text()  # what Ollama can't open is not offered to it
    tower, projector = load_tower(open_gemma(tiny_gemma))
    with load_engine(merged_reader) as engine, torch.inference_mode():
        picture = Picture.of(get_profile("finetune-pil").resize(phantom(), 56), 4)
        exact = ImageTokens(tower, projector, 2)(torch.from_numpy(normalise_pixels(picture.pixels))[None])[0]
        np.testing.assert_allclose(engine.image_embedding(picture), exact.numpy(), **FP32_IMAGE_TOKENS)


def load_engine(folder: Path, projector: Path | None = None) -> Engine:
    bundle = Bundle.open(folder, allow_failed_parity=True)
    language = bundle.path("language")
    assert language is not None
    return Engine(language, projector or bundle.path("projector"), context=512)


def test_questions_open_the_tower_when_an_image_comes(merged_reader: Path) -> None:
    generator = load(merged_reader, allow_failed_parity=True, context=512)
    tower = generator.engine._tower
    assert isinstance(tower, OnnxTower)
    generator.ask(None, "What is it?", Sampling(2))
    assert tower._session is None
    first = generator.ask(phantom(), "What is it?", Sampling(4))
    assert tower._session is not None
    assert generator.ask(phantom(), "What is it?", Sampling(4)).text == first.text
    assert generator.engine.encoded_images == 1
    generator.close()
    assert tower._session is None


def test_the_golden_answers_of_a_merged_tower(merged_reader: Path, tiny_gemma: Path, tmp_path: Path) -> None:
    """Judged by the mean, but by one that a tower which computes something else does not reach."""
    generator = load(merged_reader, allow_failed_parity=True, context=512)
    judged = {what: (bound, holds) for what, _, bound, holds in replay_answers(generator)}
    assert judged["image embedding: mean cosine"] == (0.99, True)
    assert all(holds for _, holds in judged.values())
    generator.close()
    copy = Path(shutil.copytree(merged_reader, tmp_path / "copy"))
    tower, projector = load_tower(open_gemma(tiny_gemma))
    with torch.no_grad():
        tower.encoder.layers[0].mlp.fc1.weight.mul_(2)
    export_tower(ImageTokens(tower, projector, 2), SIGNATURE).save(copy / "onnx/vision_encoder.onnx")
    generator = load(copy, verify=False, allow_failed_parity=True, context=512)
    assert not {what: holds for what, *_, holds in replay_answers(generator)}["image embedding: mean cosine"]
    generator.close()


def test_both_engines_say_the_same(tiny_gemma: Path, tiny_reader: Path, tmp_path: Path) -> None:
    """llama.cpp's tower in 16 bits and ours in 32, nothing merged: the language model reads the same from both."""
    out = tmp_path / "plain"
    export_medgemma(GeneratorJob(tiny_gemma, out, "language=f16,projector=fp32", skip_parity=True))
    rows = []
    for folder in (tiny_reader, out):
        generator = load(folder, allow_failed_parity=True, context=512)
        generator.engine.prefill(generator.encode([user(phantom(), "What is it?")]))
        rows.append(generator.engine.next_logits())
        generator.close()
    np.testing.assert_allclose(rows[1], rows[0], atol=FP16_IMAGE_LOGITS)
    assert np.ptp(rows[0]) > 1


def test_a_tower_of_another_model(merged_reader: Path, parts: tuple, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    export_tower(ImageTokens(*parts, 0), SIGNATURE).save(other)
    with (
        load_engine(merged_reader, other) as engine,
        pytest.raises(BundleError, match=f"makes {IMAGE_TOKENS} tokens of 640 numbers of an image, expected 4 of 32"),
    ):
        engine.image_embedding(Picture.of(get_profile("finetune-pil").resize(phantom(), SIDE), 4))


def test_what_can_not_be_merged(tiny_gemma: Path, few_tokens: Path, tmp_path: Path) -> None:
    from gemma_checkpoints import write_tiny_gemma

    with pytest.raises(RecipeError, match="8 tokens a block can't be merged: this tower has 16, at most 7"):
        export_medgemma(GeneratorJob(tiny_gemma, tmp_path / "a", "f16", merge=8))
    write_tiny_gemma(tmp_path / "text", few_tokens, sees=False)
    with pytest.raises(RecipeError, match="text reads text only"):
        export_medgemma(GeneratorJob(tmp_path / "text", tmp_path / "b", "f16", merge=1))
    with pytest.raises(RecipeError, match="no target 'z80'"):
        export_medgemma(GeneratorJob(tiny_gemma, tmp_path / "c", "f16", target="z80"))


def test_the_fast_recipe_passes_its_gates(reader_bundles: Callable[[str], Path]) -> None:
    """On the trained stand-in: as many patches merged as the gate allows, measured, and still answering."""
    folder = reader_bundles("language=f16,projector=fast")
    report = ParityReport.from_json((folder / "parity.json").read_text())
    assert [(gate.figure, gate.value) for gate in report.gates if not gate.passed] == []
    assert Bundle.open(folder).manifest.towers["projector"].decisions["merged_tokens_a_block"] > 0
    assert {row.stage for row in report.stages["vision"]} == {"patch embedding", "projected tokens"}
    assert max(row.pytorch_to_fp32 for row in report.stages["vision"]) < EXACT_HOP["onnx"]
    page = render_parity(report)
    assert page.count("<svg") == 4
    assert "exported fp32 → bundle" in page
