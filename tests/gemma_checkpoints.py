"""Small Gemma 3 checkpoints with random weights, laid out as published ones."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gemma_shapes import TEXT, VISION

from medge.export.families.gemma3 import open_gemma, published_name
from medge.export.families.transformers_versions import features
from medge.export.source.shard_writer import ShardWriter
from medge.export.standin.medgemma_mini import CHAT_TEMPLATE, write_configuration
from medge.export.standin.spiece import Piece
from medge.runtime.bundles.gates import GateResult, ParitySummary
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.generator.prompt import Item, Picture, length
from medge.runtime.pictures.preprocess import normalise_pixels

TEACHING_STEPS, LEARNED = 400, 0.003  # at most; the loss at which the right token is far ahead of every other

TOKENIZER = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
)
PUBLISHED_ROWS = 262_208  # of the embedding, transformers' default
FILLING = 64  # rows of a published embedding that no piece has: the image token's, and some up to a multiple of 64
FEW = 2500  # the first pieces of Gemma's vocabulary: special ones, bytes, the likeliest parts of words
FEWER = 32_768  # words of a medical text are among them, or two of them


def write_few_tokens(folder: Path) -> None:
    """Gemma's tokenizer with a hundredth of its vocabulary, the first pieces under their own ids.

    Text becomes twice as many tokens, and whatever a model or a tokenizer costs by the size of its vocabulary next to nothing.
    """
    from medge.export.standin.gemma_270m import write_tokenizer

    folder.mkdir()
    write_tokenizer([piece for _, piece in _first_pieces(FEW)], folder, CHAT_TEMPLATE)


def write_fewer_tokens(folder: Path, source: Path) -> None:
    """A trained model that knows an eighth of its vocabulary: of its embedding the rows of those pieces, and all of its layers.

    Two thirds of Gemma 3 270M are its embedding, and two thirds of what it costs to measure it.
    """
    from medge.export.standin.gemma_270m import EMBEDDING, write_tokenizer

    kept, pieces = zip(*_first_pieces(FEWER), strict=True)
    checkpoint = open_gemma(source)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors*", *TOKENIZER))
    write_tokenizer(pieces, folder, CHAT_TEMPLATE)
    ids = _special_ids(folder)
    config = {**checkpoint.config, "image_token_index": ids["<image_soft_token>"]}
    config |= {"boi_token_index": ids["<start_of_image>"], "eoi_token_index": ids["<end_of_image>"]}
    config["text_config"] = {**config["text_config"], "vocab_size": len(kept) + FILLING}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    with ShardWriter(folder, 256 << 20) as shards:
        for name in checkpoint.in_file_order():
            tensor = checkpoint.tensor(name)
            shards.add(name, torch.cat([tensor[list(kept)], tensor[-FILLING:]]) if name == EMBEDDING else tensor)


def _first_pieces(count: int) -> list[tuple[int, Piece]]:
    """The first pieces of Gemma's vocabulary with their ids, the letters that they are made of, and the image's marks."""
    from medge.export.standin.gemma_270m import assemble, read_pieces
    from medge.export.standin.spiece import USER_DEFINED

    with tempfile.TemporaryDirectory() as scratch:
        pieces = read_pieces(assemble(Path(scratch)))
    letters = {letter for piece in pieces[:count] for letter in piece.text}
    return [
        (index, piece) for index, piece in enumerate(pieces)
        if index < count or piece.text in letters or (len(piece.text) == 1 and ord(piece.text) < 0x250)
        or (piece.type == USER_DEFINED and not piece.text.startswith("<unused"))
    ]  # fmt: skip


def _special_ids(folder: Path) -> dict[str, int]:
    """The ids of a tokenizer's added tokens, by name."""
    added = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["added_tokens_decoder"]
    return {token["content"]: int(index) for index, token in added.items()}


def write_tiny_gemma(
    folder: Path, tokenizer_of: Path, *, sees: bool = True, text: dict[str, Any] | None = None,
    rename: tuple[str, str] = ("", ""), shard_bytes: int = 1 << 17, zeros: bool = False,
) -> None:  # fmt: skip
    """Write one.

    Args:
        folder: where to.
        tokenizer_of: a checkpoint with Gemma's tokenizer files.
        sees: with a vision tower.
        text: changes to the language model's configuration.
        rename: replaced in every tensor's name, as other versions of transformers write them.
        shard_bytes: of a weights file.
        zeros: all weights are zero, which a large model is made of in a moment.
    """
    from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Gemma3TextConfig

    folder.mkdir()
    for name in TOKENIZER:
        shutil.copy(tokenizer_of / name, folder / name)
    ids = _special_ids(folder)
    image = ids["<image_soft_token>"]
    rows = image + FILLING
    language = {**TEXT, **({} if rows == PUBLISHED_ROWS else {"vocab_size": rows}), **(text or {})}
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "transformers_version": "4.50.0",
        "text_config": language, "vision_config": VISION, "mm_tokens_per_image": 4, "image_token_index": image,
        "boi_token_index": ids["<start_of_image>"], "eoi_token_index": ids["<end_of_image>"], "eos_token_id": [1, 106],
    }  # fmt: skip
    torch.manual_seed(0)
    with torch.device("meta" if zeros else "cpu"):
        model = (
            Gemma3ForConditionalGeneration(Gemma3Config(**config)) if sees
            else Gemma3ForCausalLM(Gemma3TextConfig(**language))
        )  # fmt: skip
    if not sees:
        config = {**language, "architectures": ["Gemma3ForCausalLM"], "eos_token_id": [1, 106],
                  "mm_tokens_per_image": 4, "vision_config": VISION, "transformers_version": "4.50.0"}  # fmt: skip
    write_configuration(folder, config)
    if not sees:
        config.pop("vision_config")
        config.pop("mm_tokens_per_image")
        (folder / "config.json").write_text(json.dumps(config))

    def name_of(name: str) -> str:
        written = published_name(name) if sees else name
        return written.replace(*rename) if rename[0] else written

    _write_weights(folder, model, name_of, shard_bytes)


def _few_pieces() -> Iterator[tuple[str, int]]:
    """A vocabulary that reads any text by its bytes, with the tokens that a Gemma model needs by name: (text, kind)."""
    control, byte, normal = 3, 6, 1
    yield from (("<pad>", control), ("<eos>", control), ("<bos>", control), ("<unk>", 2))
    yield from ((f"<0x{value:02X}>", byte) for value in range(256))
    yield from ((chr(code), normal) for code in range(0x21, 0x7F))
    yield from ((word, normal) for word in ("▁", "▁a", "in", "is", "▁the", "er", "re"))
    for name in ("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>",
                 "<unused94>", "<unused95>"):  # fmt: skip
        yield name, control


def write_small_gemma(folder: Path, text: dict[str, Any], vision: dict[str, Any]) -> None:
    """Write a model of some hundred tokens, whose files are read in milliseconds; `text` and `vision` are its configuration."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    from medge.export.standin.spiece import gemma_pieces, gemma_spiece

    texts, kinds = zip(*_few_pieces(), strict=True)
    ids = {piece: index for index, piece in enumerate(texts)}
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "transformers_version": "4.50.0",
        "text_config": {**text, "vocab_size": len(texts)}, "vision_config": vision, "mm_tokens_per_image": 4,
        "image_token_index": ids["<image_soft_token>"], "boi_token_index": ids["<start_of_image>"],
        "eoi_token_index": ids["<end_of_image>"], "eos_token_id": [ids["<eos>"], ids["<end_of_turn>"]],
    }  # fmt: skip
    folder.mkdir()
    write_configuration(folder, config)
    (folder / "tokenizer.model").write_bytes(
        gemma_spiece(gemma_pieces(texts, [-float(i) for i in range(len(texts))], kinds))
    )
    added = {
        str(ids[piece]): {"content": piece, "special": True}
        for piece, kind in zip(texts, kinds, strict=True)
        if kind == 3
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": added, "bos_token": "<bos>", "eos_token": "<eos>"})
    )
    torch.manual_seed(0)
    _write_weights(folder, Gemma3ForConditionalGeneration(Gemma3Config(**config)), published_name, 1 << 20)


def _write_weights(folder: Path, model: torch.nn.Module, name_of: Callable[[str], str], shard_bytes: int) -> None:
    """A model's weights, changed at random so that no norm is at its beginning; zeros of one without memory for them."""
    with ShardWriter(folder, shard_bytes) as shards:
        for name, tensor in model.state_dict().items():
            if "position_ids" in name or "lm_head" in name or ".head." in name:
                continue
            if tensor.is_meta:
                shards.add(name_of(name), torch.zeros(tensor.shape, dtype=torch.bfloat16))
                continue
            value = torch.randn_like(tensor) * 0.05 if tensor.ndim > 1 else tensor + 0.01 * torch.randn_like(tensor)
            shards.add(name_of(name), value.to(torch.bfloat16))


def say_passed(folder: Path) -> None:
    """Write into a bundle that its parity passed: for tests of a runtime that refuses others, not of the model."""
    made = Manifest.read(folder)
    gate = GateResult("text.kld.mean", "<=", 1.0, 0.0, passed=True)
    parity = ParitySummary("passed", (), images=0, texts=0, labelled=False, held_back=True, machine={}, gates=(gate,))
    passed = dataclasses.replace(made.artefacts["gguf"], parity=parity)
    (folder / "manifest.json").write_text(made.with_artefact("gguf", passed).to_json(), encoding="utf-8")


def teach(source: Path, out: Path, prompts: Sequence[Sequence[Item]], answers: Sequence[Sequence[int]]) -> None:
    """A copy of a checkpoint that has learned these answers by heart.

    A random model's first two choices often lie within rounding of each other, so that another processor may say
    otherwise and be right; this one is decided.
    """
    from transformers import Gemma3ForConditionalGeneration

    model = Gemma3ForConditionalGeneration.from_pretrained(source, dtype=torch.float32, local_files_only=True)
    width = max(length(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)) - 1
    ids = torch.zeros(len(prompts), width, dtype=torch.int64)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    pictures: list[tuple[int, int, Picture]] = []
    targets: list[tuple[int, int, int]] = []
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        at = 0
        for item in [*prompt, *answer[:-1]]:
            if isinstance(item, Picture):
                pictures.append((row, at, item))
                types[row, at : at + item.tokens] = 1
            else:
                ids[row, at] = item
            at += item.tokens if isinstance(item, Picture) else 1
        mask[row, :at] = 1
        targets += [(row, length(prompt) - 1 + index, token) for index, token in enumerate(answer)]
    pixels = torch.from_numpy(np.stack([normalise_pixels(picture.pixels) for *_, picture in pictures]))
    rows, places, tokens = (torch.tensor(part) for part in zip(*targets, strict=True))
    # Of a quarter of a million tokens only these occur: they are trained, and the rest made to have no say.
    table = model.get_input_embeddings()
    occurring, index = torch.cat([ids.flatten(), tokens]).unique(return_inverse=True)
    read, wanted = index[: ids.numel()].view_as(ids), index[ids.numel() :]
    known = torch.nn.Parameter(table.weight.detach()[occurring])
    table.weight.requires_grad_(False)
    optimizer = torch.optim.Adam([known, *(weight for weight in model.parameters() if weight.requires_grad)], lr=1e-2)
    for _ in range(TEACHING_STEPS):
        embeddings = known[read] * table.embed_scale
        seen_of = features(model.model.get_image_features(pixels))
        for (row, at, picture), seen in zip(pictures, seen_of, strict=True):
            embeddings[row, at : at + picture.tokens] = seen
        hidden = model.model(
            inputs_embeds=embeddings, attention_mask=mask, token_type_ids=types, use_cache=False
        ).last_hidden_state[rows, places]  # fmt: skip
        logits = torch.cat([hidden @ known.T, torch.zeros(len(hidden), 1)], dim=1)
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        if loss.item() < LEARNED:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < LEARNED, f"it learned little: {loss.item()}"
    with torch.no_grad():
        table.weight.zero_()
        table.weight[occurring] = known
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("*.safetensors*"))
    with ShardWriter(out, 1 << 20) as shards:
        for name, tensor in model.state_dict().items():
            if "lm_head" not in name and "position_ids" not in name and ".head." not in name:
                shards.add(published_name(name), tensor.to(torch.bfloat16))
