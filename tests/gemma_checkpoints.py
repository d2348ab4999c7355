"""Small Gemma 3 checkpoints with random weights, laid out as published ones."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gemma_shapes import TEXT, VISION

from medge.export.families.gemma3 import published_name
from medge.export.families.transformers_versions import features
from medge.export.source.shard_writer import ShardWriter
from medge.export.standin.medgemma_mini import write_configuration
from medge.runtime.bundles.gates import GateResult, ParitySummary
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.generator.engine import Item, Picture, length
from medge.runtime.pictures.preprocess import normalise_pixels

TEACHING_STEPS, LEARNED = 400, 0.003  # at most; the loss at which the right token is far ahead of every other

TOKENIZER = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
)


def write_tiny_gemma(
    folder: Path, tokenizer_of: Path, *, sees: bool = True, text: dict[str, Any] | None = None,
    rename: tuple[str, str] = ("", ""), shard_bytes: int = 1 << 20,
) -> None:  # fmt: skip
    """Write one.

    Args:
        folder: where to.
        tokenizer_of: a checkpoint with Gemma's tokenizer files.
        sees: with a vision tower.
        text: changes to the language model's configuration.
        rename: replaced in every tensor's name, as other versions of transformers write them.
        shard_bytes: of a weights file.
    """
    from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Gemma3TextConfig

    folder.mkdir()
    for name in TOKENIZER:
        shutil.copy(tokenizer_of / name, folder / name)
    language = {**TEXT, **(text or {})}
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "transformers_version": "4.50.0",
        "text_config": language, "vision_config": VISION, "mm_tokens_per_image": 4, "image_token_index": 262_144,
        "boi_token_index": 255_999, "eoi_token_index": 256_000, "eos_token_id": [1, 106],
    }  # fmt: skip
    torch.manual_seed(0)
    if sees:
        model = Gemma3ForConditionalGeneration(Gemma3Config(**config))
    else:
        model = Gemma3ForCausalLM(Gemma3TextConfig(**language))
        config = {**language, "architectures": ["Gemma3ForCausalLM"], "eos_token_id": [1, 106],
                  "mm_tokens_per_image": 4, "vision_config": VISION, "transformers_version": "4.50.0"}  # fmt: skip
    write_configuration(folder, config)
    if not sees:
        config.pop("vision_config")
        config.pop("mm_tokens_per_image")
        (folder / "config.json").write_text(json.dumps(config))
    with ShardWriter(folder, shard_bytes) as shards:
        for name, tensor in model.state_dict().items():
            if "position_ids" in name or "lm_head" in name or ".head." in name:
                continue
            published = published_name(name) if sees else name
            value = torch.randn_like(tensor) * 0.05 if tensor.ndim > 1 else tensor + 0.01 * torch.randn_like(tensor)
            shards.add(published.replace(*rename) if rename[0] else published, value.to(torch.bfloat16))


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
