"""Each family on the transformers that is installed: opened by its auto classes, saved by it, exported, measured, loaded.

`make test` runs this file on transformers 5, `make test-transformers` on 4.57.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'medge[export]'")
import torch
from tolerances import EXACT_REWRITE, FP32_EMBEDDING

import medge
from medge.export.families.siglip import Reference
from medge.export.families.transformers_versions import features, with_pillow
from medge.export.source.checkpoint import Checkpoint
from medge.export.standin.medsiglip.architecture import SIDE
from medge.quant.texts.prompts import medical_texts
from medge.runtime.bundles.facts import TokenizerFacts
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.encoder.tokenizer import Tokenizer
from medge.runtime.golden.phantom import phantom
from medge.runtime.pictures.preprocess import get_profile, normalise_pixels

TEXTS = ["A CT, of the Head!", "head/neck <b>CT</b>", "", "naïve café ÜBER 1.5 mm³ 🫁", "片側 肺炎", "word " * 90]
RUNTIME_TOLERANCE = 1e-6  # the processor divides by 255 and by 0.5 in another order


@pytest.fixture(scope="module")
def siglip_opened(checkpoint: Path) -> dict[str, Any]:
    from transformers import AutoModel, AutoProcessor, AutoTokenizer

    return {
        "model": AutoModel.from_pretrained(checkpoint, attn_implementation="eager").eval(),
        "processor": AutoProcessor.from_pretrained(checkpoint, **with_pillow()),
        "tokenizer": AutoTokenizer.from_pretrained(checkpoint),
    }


def test_the_encoder_opens_with_the_auto_classes(siglip_opened: dict[str, Any], reference: Reference) -> None:
    ids = np.random.default_rng(0).integers(0, 32_000, (2, 64))
    processor, pixels = siglip_opened["processor"], normalise_pixels(get_profile("hf-bicubic").resize(phantom(), SIDE))
    theirs = processor(text="CT", images=phantom(), padding="max_length", return_tensors="np")
    np.testing.assert_allclose(theirs["pixel_values"][0], pixels, rtol=0, atol=RUNTIME_TOLERANCE)
    model = siglip_opened["model"]
    with torch.no_grad():
        images = features(model.get_image_features(torch.from_numpy(pixels)[None]))
        texts = features(model.get_text_features(torch.from_numpy(ids)))
    for found, expected in ((images, reference.images(pixels[None])), (texts, reference.texts(ids))):
        found = torch.nn.functional.normalize(found, dim=-1).numpy()
        np.testing.assert_allclose(found, expected.embedding, rtol=0, atol=FP32_EMBEDDING)


def test_auto_tokenizer_gives_the_runtimes_ids(siglip_opened: dict[str, Any], checkpoint: Path, tmp_path: Path) -> None:
    from medge.export.families.siglip_tokenizer import device_tokenizer

    (tmp_path / "tokenizer.json").write_text(device_tokenizer(Checkpoint.open(checkpoint)), encoding="utf-8")
    texts = [*TEXTS, *(text[:300] for text in medical_texts())]
    ours, _ = Tokenizer(tmp_path / "tokenizer.json", TokenizerFacts(64, 1, 1), 32000).encode(texts)
    theirs = siglip_opened["tokenizer"](
        texts, padding="max_length", max_length=64, truncation=True, return_tensors="np"
    )["input_ids"]  # fmt: skip
    assert [text for text, a, b in zip(texts, ours, theirs, strict=True) if not np.array_equal(a, b)] == []


def test_the_rebuilt_sentencepiece_model_is_the_published_one(shared: Path, checkpoint: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    published = SentencePieceProcessor(model_file=str(shared / "medsiglip_tokenizer" / "spiece.model"))
    rebuilt = SentencePieceProcessor(model_file=str(checkpoint / "spiece.model"))
    assert len(rebuilt) == len(published) == 32_000
    for index in range(len(published)):
        assert rebuilt.id_to_piece(index) == published.id_to_piece(index)
        assert rebuilt.get_score(index) == published.get_score(index)
        for kind in ("is_control", "is_unknown", "is_byte"):
            assert getattr(rebuilt, kind)(index) == getattr(published, kind)(index)
    texts = [*TEXTS, *(text[:300] for text in medical_texts())]
    assert rebuilt.encode(texts) == published.encode(texts)


def test_an_encoder_saved_by_transformers_is_read(
    siglip_opened: dict[str, Any], checkpoint: Path, reference: Reference, tmp_path: Path
) -> None:
    siglip_opened["model"].save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((checkpoint / "tokenizer.json").read_bytes())
    again, pixels = Reference(Checkpoint.open(tmp_path, "siglip")), np.zeros((1, 3, SIDE, SIDE), np.float32)
    np.testing.assert_allclose(
        again.images(pixels).embedding, reference.images(pixels).embedding, rtol=0, atol=EXACT_REWRITE
    )


def test_the_encoder_is_exported_measured_and_loaded(make_bundle: Callable[[str], Path], few_images: Path) -> None:
    folder = make_bundle("int8")
    assert Manifest.read(folder).status == "passed"
    assert medge.load(folder).embed_images(few_images / "CT_small.dcm").shape == (1, 192)


def test_the_generator_opens_with_the_auto_classes(tiny_gemma: Path) -> None:
    from transformers import AutoModel, AutoProcessor, AutoTokenizer

    from medge.export.families.generator_reference import GeneratorReference

    model = AutoModel.from_pretrained(tiny_gemma, dtype=torch.float32).eval()
    reference = GeneratorReference(tiny_gemma)
    ids = [2, 651, 1628, 576, 506]
    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids]), token_type_ids=torch.zeros(1, len(ids), dtype=torch.int64))
    torch.testing.assert_close(found.last_hidden_state[0], reference.hidden(ids), rtol=0, atol=FP32_EMBEDDING)
    tokenizer = AutoTokenizer.from_pretrained(tiny_gemma)
    processor = AutoProcessor.from_pretrained(tiny_gemma, **with_pillow())
    assert tokenizer(TEXTS).input_ids == processor.tokenizer(TEXTS).input_ids
    side = int(reference.checkpoint.config["vision_config"]["image_size"])
    pixels = normalise_pixels(get_profile("finetune-pil").resize(phantom(), side))
    np.testing.assert_allclose(reference.pixels(phantom()), pixels, rtol=0, atol=RUNTIME_TOLERANCE)


def test_a_generator_saved_by_transformers_is_read(tiny_gemma: Path, tmp_path: Path) -> None:
    """Its names are the version's own, and so are the places of its configuration."""
    from transformers import Gemma3ForConditionalGeneration

    from medge.export.families.gemma3 import open_gemma, text_config
    from medge.export.families.generator_reference import GeneratorReference
    from medge.export.to_gguf.write import plan_language, plan_projector

    Gemma3ForConditionalGeneration.from_pretrained(tiny_gemma, dtype=torch.bfloat16).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((tiny_gemma / name).read_bytes())
    ours, theirs = open_gemma(tiny_gemma), open_gemma(tmp_path)
    for plan in (plan_language, plan_projector):
        assert {(t.name, t.shape) for t in plan(ours, "f16")} == {(t.name, t.shape) for t in plan(theirs, "f16")}
    known = ("rope_theta", "rope_local_base_freq", "sliding_window", "query_pre_attn_scalar", "num_key_value_heads")
    assert {key: text_config(ours)[key] for key in known} == {key: text_config(theirs)[key] for key in known}
    ids = [2, 651, 1628, 576, 506]
    torch.testing.assert_close(GeneratorReference(tmp_path).hidden(ids), GeneratorReference(tiny_gemma).hidden(ids))


def test_what_a_configuration_leaves_out_is_transformers_default(tmp_path: Path) -> None:
    from transformers import Gemma3TextConfig

    from medge.export.families.gemma3 import text_config

    stated = Gemma3TextConfig().to_dict()
    silent = text_config(Checkpoint(tmp_path, {}, {}))
    told = text_config(Checkpoint(tmp_path, stated, {}))
    assert silent["vocab_size"] == stated["vocab_size"]
    assert {key: told[key] for key in silent} == silent


def test_the_generator_is_exported_measured_and_loaded(tiny_gemma: Path, tmp_path: Path) -> None:
    from medge.export.jobs.generator import export_medgemma
    from medge.export.jobs.generator_job import GeneratorJob
    from medge.runtime.generator.load import load

    export_medgemma(GeneratorJob(tiny_gemma, tmp_path / "b", "f16"))
    assert Manifest.read(tmp_path / "b").status == "passed"
    generator = load(tmp_path / "b", context=512)
    assert generator.ask(phantom(), "What is this?", medge.Sampling(limit=4)).tokens
    generator.close()


def test_the_benchmarks_optimum_engine(checkpoint: Path) -> None:
    pytest.importorskip("optimum.exporters.onnx", reason="optimum-onnx needs transformers 4.57: make test-transformers")
    from medge.export.bench.engines import optimum

    pixels = np.zeros((1, 3, SIDE, SIDE), np.float32)
    expected = Reference(Checkpoint.open(checkpoint, "siglip")).images(pixels).stages["pooled"]
    np.testing.assert_allclose(optimum(checkpoint)(pixels)[-1], expected, rtol=0, atol=FP32_EMBEDDING * 10)


def test_the_installed_version_is_a_supported_one() -> None:
    import transformers

    assert (4, 57) <= tuple(int(part) for part in transformers.__version__.split(".")[:2]) < (6, 0), sys.executable
