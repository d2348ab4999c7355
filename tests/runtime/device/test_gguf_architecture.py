"""GGUF files that are sound as files and no model of ours: refused in words before llama.cpp, which would end the process."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf_files import ARRAY, F32, I32, STR, U32, File, Key, Tensor, language, projector, spoil_and_check, use

from medge.runtime.device.gguf_architecture import image_tokens, read_language, read_projector
from medge.runtime.errors import BundleError

CASES, LOADED = 400, 12


def write(folder: Path, file: File) -> Path:
    path = folder / "x.gguf"
    path.write_bytes(file.content())
    return path


def test_sound_files(tmp_path: Path) -> None:
    header = read_language(write(tmp_path, language()))
    assert header.metadata["tokenizer.ggml.tokens"] == 300  # the pieces themselves are not kept
    assert header.kinds["tokenizer.ggml.scores"] == "[F32]"
    assert image_tokens(read_projector(write(tmp_path, projector()))) == 1


def tensor(name: str, /, **changes: Any) -> Callable[[File], None]:
    def change(file: File) -> None:
        [found] = [found for found in file.tensors if found.name == name]
        for field, value in changes.items():
            setattr(found, field, value)

    return change


def key(name: str, value: Any, kind: int | None = None) -> Callable[[File], None]:
    def change(file: File) -> None:
        [found] = [found for found in file.keys if found.name == name]
        found.value, found.type = value, found.type if kind is None else kind

    return change


def element(name: str, at: int, value: Any) -> Callable[[File], None]:
    def change(file: File) -> None:
        [found] = [found for found in file.keys if found.name == f"tokenizer.ggml.{name}"]
        found.value[1][at] = value

    return change


def more(part: Key | Tensor) -> Callable[[File], None]:
    return lambda file: (file.keys if isinstance(part, Key) else file.tensors).append(part)  # type: ignore[arg-type]  # mypy joins the two lists


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (tensor("blk.0.attn_norm.weight", type="F16"), "attn_norm.weight' is of the type F16"),
        (tensor("blk.1.ffn_up.weight", type="I8"), "of the type I8"),
        (tensor("blk.1.ffn_up.weight", shape=(64, 32)), r"shape \(64, 32\) instead of \(32, 64\)"),
        (tensor("blk.1.ffn_up.weight", name="blk.2.ffn_up.weight"), "'blk.2.ffn_up.weight', which medge never writes"),
        (lambda file: file.tensors.pop(), "lacks the tensor"),
        (key("gemma3.block_count", 1), "'blk.1.* which medge never writes"),
        (key("gemma3.block_count", 2.0, F32), "block_count is of the type F32 instead of U32"),
        (key("gemma3.context_length", 0), "context_length is 0"),
        (key("gemma3.attention.layer_norm_rms_epsilon", float("nan")), "epsilon is nan"),
        (key("gemma3.rope.scaling.type", "yarn"), "scaled by 'yarn'"),
        (key("gemma3.rope.scaling.factor", float("inf")), "factor is inf"),
        (key("general.architecture", "llama"), "architecture is 'llama'"),
        (key("general.name", 5, U32), "general.name is of the type U32"),
        (key("tokenizer.ggml.model", "gpt2"), "not SentencePiece"),
        (key("tokenizer.ggml.add_space_prefix", True), "no space is put before"),
        (key("tokenizer.ggml.bos_token_id", 300), "beyond its 300 pieces"),
        (key("tokenizer.ggml.scores", (F32, [0.0] * 299)), "not equally many"),
        (key("tokenizer.ggml.token_type", (U32, [1] * 300)), r"of the type \[U32\]"),
        (element("tokens", 290, "▁w0"), "one twice"),
        (element("tokens", 290, ""), "empty piece"),
        (element("tokens", 20, "x"), "single bytes"),
        (element("token_type", 290, 6), "single bytes"),
        (element("token_type", 290, 0), "means nothing"),
        (element("scores", 290, float("nan")), "means nothing"),
        (more(Key("gemma3.expert_count", U32, 9)), "'gemma3.expert_count', which medge never writes"),
        (more(Key("tokenizer.ggml.suppress_tokens", ARRAY, (I32, [1]))), "never writes"),
        (lambda file: setattr(file, "cut", -32), "bytes, its tensors take"),
        (lambda file: setattr(file.tensors[-1], "shift", 32), "ends before|don't follow"),
        (more(Key("general.tags", STR, "x")), r"type STR instead of \[STR\]"),
    ],
)  # fmt: skip
def test_a_language_model_that_is_none(tmp_path: Path, change: Callable[[File], None], reason: str) -> None:
    file = language()
    change(file)
    with pytest.raises(BundleError, match=reason):
        read_language(write(tmp_path, file))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (tensor("v.blk.0.ln1.weight", type="F16"), "of the type F16"),
        (tensor("mm.input_projection.weight", type="F32"), "of the type F32"),
        (tensor("mm.input_projection.weight", shape=(48, 32)), "shape"),
        (tensor("v.position_embd.weight", shape=(48, 5)), "shape"),
        (key("clip.vision.image_size", 30), "no whole patches"),
        (key("clip.vision.projector.scale_factor", 0), "no whole patches"),
        (key("clip.vision.attention.head_count", 5), "multiple of its heads"),
        (key("clip.vision.image_mean", (F32, [0.5] * 2)), "not three numbers"),
        (key("clip.vision.image_std", (F32, [0.5, 0.0, 0.5])), "not positive"),
        (key("clip.projector_type", "mlp"), "no vision tower of Gemma 3"),
        (key("clip.use_gelu", False), "another activation"),
        (key("clip.vision.block_count", 3), "lacks the tensor 'v.blk.2"),
    ],
)  # fmt: skip
def test_a_projector_that_is_none(tmp_path: Path, change: Callable[[File], None], reason: str) -> None:
    file = projector()
    change(file)
    with pytest.raises(BundleError, match=reason):
        read_projector(write(tmp_path, file))


def test_spoiled_files_are_refused_in_words_or_can_be_used(tmp_path: Path) -> None:
    """`python tests/gguf_files.py` does the same with as many as one likes, and uses all that pass."""
    tried = list(spoil_and_check(CASES, random.Random(16), tmp_path))
    passed = [one.files for one in tried if not one.refused]
    assert [one.refused for one in tried if "\n" in one.refused or len(one.refused) > 400] == []
    assert LOADED < len(passed) < CASES / 4
    if importlib.util.find_spec("llama_cpp"):
        assert use(passed[:LOADED]) == ["used"] * LOADED
