"""Importance matrices, llama.cpp's quantizer behind our recipes, and types chosen for a size."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="gguf is not installed: pip install 'medge[export]'")
import gguf
from gguf_files import language
from tolerances import FP32_ROUNDING, FP32_SUMS, IMPORTANCE

from medge.export.families.gemma3 import open_gemma
from medge.export.jobs.calibrate import calibrate
from medge.export.source.corpus import Corpus, read_corpus
from medge.export.source.samples import Samples
from medge.quant.gguf_file.importance import Importance, gather
from medge.quant.gguf_file.inputs import CalibrationRun
from medge.quant.gguf_file.moments import Moments
from medge.quant.gguf_file.quantize import encode_blocks, quantize_language
from medge.quant.gguf_file.sensitivity import LADDER, Sensitivity, size_of
from medge.quant.recipes.gguf import GGUF_RECIPES, PROJECTOR_RECIPES
from medge.quant.texts.prompts import medical_texts
from medge.runtime.device.gguf_architecture import GENERAL, LANGUAGE_TYPES, PROJECTOR_TYPES, read_language
from medge.runtime.device.gguf_header import read_header
from medge.runtime.errors import BundleError, CheckpointError, RecipeError, StorageError
from medge.runtime.generator.engine import Engine
from medge.runtime.generator.prompt import Item, Picture

Prompts = Callable[[Engine], list[list[Item]]]


def test_the_matrix_is_what_pytorch_says(full: tuple[Path, Path], prompts: Prompts, tiny_gemma: Path) -> None:
    """Mean squares of a linear layer's inputs, on text and image positions, against hooks in PyTorch."""
    from medge.export.families.generator_reference import GeneratorReference

    reference = GeneratorReference(tiny_gemma)
    found = gather(CalibrationRun(*full, prompts))
    sums: dict[str, np.ndarray] = {}

    def hook(name: str) -> Callable[..., None]:
        def add(_module: object, inputs: tuple) -> None:
            rows = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
            rows = rows / (rows**2).mean(-1, keepdim=True).sqrt()
            sums[name] = sums.get(name, 0) + (rows**2).sum(0).numpy()

        return add

    layer = reference.model.model.language_model.layers[3]
    layer.mlp.down_proj.register_forward_pre_hook(hook("blk.3.ffn_down.weight"))
    layer.mlp.gate_proj.register_forward_pre_hook(hook("blk.3.ffn_gate.weight"))
    layer.self_attn.q_proj.register_forward_pre_hook(hook("blk.3.attn_q.weight"))
    layer.self_attn.v_proj.register_forward_pre_hook(hook("blk.3.attn_v.weight"))
    with Engine(*full, context=512) as engine:
        work = prompts(engine)
    for items in work:
        reference.hidden(items)
    for name, expected in sums.items():
        np.testing.assert_allclose(found.sums[name], expected, rtol=IMPORTANCE, err_msg=name)
    positions = sum(1 if not isinstance(item, Picture) else item.tokens for items in work for item in items)
    assert found.counts["blk.3.attn_q.weight"] == positions  # image positions are among them
    matrices = {name for name, tensor in read_header(full[0]).tensors.items() if len(tensor.shape) == 2}
    assert set(found.sums) == matrices  # the token embedding, which makes the output, among them


def test_format_is_llama_cpps(full: tuple[Path, Path], prompts: Prompts, tmp_path: Path) -> None:
    """As tools/imatrix writes it: general.type, datasets, chunks, and <name>.in_sum2 beside <name>.counts."""
    found = gather(CalibrationRun(*full, prompts), out=tmp_path / "m.gguf", sources=["reports"])
    header = read_header(tmp_path / "m.gguf")
    assert header.metadata["general.type"] == "imatrix"
    assert header.metadata["imatrix.chunk_count"] == found.chunks
    assert {"imatrix.datasets", "imatrix.chunk_size"} <= set(header.metadata)
    sums, counts = header.tensors["blk.0.attn_q.weight.in_sum2"], header.tensors["blk.0.attn_q.weight.counts"]
    assert (sums.shape, counts.shape, sums.type) == ((32, 1), (1, 1), "F32")
    again = Importance.load(tmp_path / "m.gguf")
    np.testing.assert_allclose(again.mean("blk.0.attn_q.weight"), found.mean("blk.0.attn_q.weight"), rtol=FP32_ROUNDING)


def test_an_interrupted_run_goes_on(
    full: tuple[Path, Path], prompts: Prompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medge.quant.gguf_file.importance.SAVE_EVERY", 1)
    whole = gather(CalibrationRun(*full, prompts))
    out = tmp_path / "m.gguf"

    def stop(_what: str, done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather(CalibrationRun(*full, prompts), out=out, progress=stop)
    assert Importance.load(out).chunks == 2
    worked: list[int] = []
    resumed = gather(CalibrationRun(*full, prompts), out=out, progress=lambda _w, done, _t: worked.append(done))
    assert worked[0] == 3
    for name in whole.sums:
        np.testing.assert_allclose(resumed.sums[name], whole.sums[name], rtol=FP32_SUMS)


def test_another_models_matrix_and_other_data_are_not_overwritten(
    full: tuple[Path, Path], prompts: Prompts, tmp_path: Path
) -> None:
    out = tmp_path / "m.gguf"

    def few(engine: Engine) -> list[list[Item]]:
        return prompts(engine)[:1]

    gather(CalibrationRun(*full, few), out=out, identity="one model")
    before = out.read_bytes()
    for identity, data in (("another model", few), ("one model", prompts)):
        with pytest.raises(StorageError, match="for another model or on other data; --force replaces it"):
            gather(CalibrationRun(*full, data), out=out, identity=identity)
    assert out.read_bytes() == before
    with Engine(*full, context=512) as engine:
        count = len(prompts(engine))
    assert gather(CalibrationRun(*full, prompts), out=out, identity="another model", force=True).chunks == count


def test_calibration_sees_images(tiny_gemma: Path, tmp_path: Path, few_images: Path) -> None:
    images = read_corpus([few_images]).images
    corpus = Corpus([], Samples(images.images[:2], None, (), (), ""), "two images")
    found = calibrate(open_gemma(tiny_gemma), corpus, scratch=tmp_path)
    assert found.chunks == 2
    assert found.counts["blk.0.attn_q.weight"] > 2 * 4  # an image is four, and a question follows it


def test_every_recipe_quantizes(full: tuple[Path, Path], prompts: Prompts, tmp_path: Path) -> None:
    matrix = gather(CalibrationRun(*full, prompts))
    sizes = []
    for name, recipe in GGUF_RECIPES.items():
        if name not in ("f16", "bf16"):
            quantize_language(full[0], tmp_path / name, recipe, importance=matrix if recipe.importance else None)
            sizes.append(read_header(tmp_path / name).bits_per_weight())
    assert len(sizes) == len(GGUF_RECIPES) - 2
    assert max(sizes) < 16


def test_the_matrix_changes_what_is_stored(full: tuple[Path, Path], prompts: Prompts, tmp_path: Path) -> None:
    matrix = gather(CalibrationRun(*full, prompts))
    for name, importance in (("with", matrix), ("without", None)):
        quantize_language(full[0], tmp_path / name, GGUF_RECIPES["q4_0"], importance=importance)

    def stored(name: str, tensor: str) -> bytes:
        place = read_header(tmp_path / name).tensors[tensor]
        return (tmp_path / name).read_bytes()[place.offset : place.offset + place.bytes]

    assert stored("with", "blk.0.ffn_up.weight") != stored("without", "blk.0.ffn_up.weight")
    assert stored("with", "blk.0.attn_norm.weight") == stored("without", "blk.0.attn_norm.weight")


def test_types_by_tensor(full: tuple[Path, Path], tmp_path: Path) -> None:
    quantize_language(full[0], tmp_path / "q", GGUF_RECIPES["q4_0"], types={"blk.2.ffn_up.weight": "Q8_0"})
    header = read_header(tmp_path / "q")
    assert header.tensors["blk.2.ffn_up.weight"].type == "Q8_0"
    assert header.tensors["blk.3.ffn_up.weight"].type == "Q4_0"


def test_what_a_recipe_keeps(full: tuple[Path, Path], tmp_path: Path) -> None:
    quantize_language(full[0], tmp_path / "q", GGUF_RECIPES["q8_0"])
    types = {name: tensor.type for name, tensor in read_header(tmp_path / "q").tensors.items()}
    assert {types[f"blk.{n}.attn_{part}.weight"] for n in range(6) for part in "kv"} == {"F16"}
    assert [types[f"blk.{n}.ffn_down.weight"] for n in range(6)] == ["Q8_0"] * 4 + ["F16"] * 2
    assert types["blk.5.ffn_up.weight"] == types["token_embd.weight"] == "Q8_0"


def test_a_size_is_kept(full: tuple[Path, Path], prompts: Prompts, tmp_path: Path) -> None:
    matrix = gather(CalibrationRun(*full, prompts))
    coarse, fine = [], []
    size = full[0].stat().st_size
    matrices = sum(t.bytes for t in read_header(full[0]).tensors.values() if len(t.shape) == 2)
    sensitivity = Sensitivity(full[0], matrix, medical_texts(), tmp_path)
    for share, kept in ((0.17, coarse), (0.24, fine)):
        target = size - matrices + int(matrices * share)
        types = sensitivity.types(target)
        quantize_language(full[0], tmp_path / "q", GGUF_RECIPES["q4_k_m"], importance=matrix, types=types)
        assert (tmp_path / "q").stat().st_size <= target
        kept += [read_header(tmp_path / "q").bits_per_weight(), len(set(types.values()))]
    assert coarse[0] < fine[0]
    assert coarse[1] > 1  # layers were told apart


@pytest.mark.parametrize("compensated", [False, True])
def test_so_many_bits_a_weight(full: tuple[Path, Path], prompts: Prompts, tmp_path: Path, compensated: bool) -> None:
    """As recipes by bits ask for them, the token embedding among the weights."""
    run, recipe = CalibrationRun(*full, prompts), GGUF_RECIPES["small-3.5"]
    matrix, moments = gather(run), Moments(run) if compensated else None
    types = Sensitivity(full[0], matrix, medical_texts(), tmp_path, moments=moments).types(size_of(full[0], 6.0))
    quantize_language(full[0], tmp_path / "q", recipe, importance=matrix, types=types)
    assert 5.5 < read_header(tmp_path / "q").bits_per_weight() <= 6.0
    assert "token_embd.weight" in types


def test_a_size_that_is_too_small_is_refused_before_anything_is_measured(
    full: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="too small"):
        Sensitivity(full[0], Importance(), [], tmp_path, progress=never).types(1000)
    assert not list(tmp_path.iterdir())


def never(*_: object) -> None:
    pytest.fail("it began to measure")


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_0", "Q4_1", "Q5_1"])
def test_blocks_come_back(kind: str) -> None:
    type_ = gguf.GGMLQuantizationType[kind]
    rows = np.random.default_rng(0).standard_normal((8, 64), np.float32)
    back = gguf.quants.dequantize(encode_blocks(rows, type_), type_)
    bits = int(kind[1])
    assert float(np.abs(back - rows).max()) < 8 / 2**bits
    if kind == "Q8_0":
        np.testing.assert_array_equal(encode_blocks(rows, type_), gguf.quants.quantize(rows, type_))


def test_what_is_no_matrix(full: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="medge calibrate"):
        Importance.load(full[0])
    (tmp_path / "x").write_bytes(b"GG")
    with pytest.raises(BundleError, match="GGUF"):
        Importance.load(tmp_path / "x")


def test_the_runtime_knows_every_type_that_is_written() -> None:
    """And no other: it refuses a file with a tensor of a type that no recipe gives it."""
    stored = {"F32", "F16", "BF16"}
    assert stored.union(*LADDER) == LANGUAGE_TYPES
    recipes = PROJECTOR_RECIPES.values()
    assert {recipe.precision.upper() for recipe in recipes} | {recipe.block for recipe in recipes} - {
        ""
    } == PROJECTOR_TYPES


@pytest.mark.parametrize("width", [32, 256])  # the second takes K-quants, the first what stands in for them
def test_the_runtime_takes_what_every_recipe_writes(tmp_path: Path, width: int) -> None:
    (source := tmp_path / "full.gguf").write_bytes(language(width).content())
    matrices = {name: tensor for name, tensor in read_header(source).tensors.items() if len(tensor.shape) == 2}
    importance = Importance()
    for name, tensor in matrices.items():
        importance.add(name, np.ones((4, tensor.shape[0]), np.float32))
    for recipe in GGUF_RECIPES.values():
        quantize_language(source, tmp_path / "x.gguf", recipe, importance=importance, threads=1)
        assert set(read_language(tmp_path / "x.gguf").types()) <= LANGUAGE_TYPES


def test_the_runtime_knows_every_key_of_a_model_card() -> None:
    """gguf-py writes what a checkpoint's README says of itself."""
    named = {
        value.replace("{id}", "0") for value in vars(gguf.Keys.General).values() if str(value).startswith("general.")
    }
    unknown = {key for key in named if not any(re.fullmatch(pattern, key) for pattern in GENERAL)}
    assert unknown == {"general.alignment"}  # which only a file with another than 32 has
