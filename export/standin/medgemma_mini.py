"""`medgemma-mini`: Gemma 3 270M off its 4-bit grid, medsiglip-mini's vision tower, and a projector trained here."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from ...runtime.bundles.atomic import atomic_folder
from ..source.shard_writer import ShardWriter
from .gemma_270m import (
    EMBEDDING,
    IMAGE_TOKEN_ID,
    TEXT_CONFIG,
    WIDTH,
    assemble,
    permuted,
    read_pieces,
    read_weights,
    write_tokenizer,
)
from .medsiglip.architecture import CONFIG as ENCODER
from .medsiglip.architecture import PATCH, SIDE
from .medsiglip.packed import unpack
from .widen import widened

PROJECTOR = Path(__file__).with_name("medgemma_mini_projector.safetensors")
# <eos> ends an answer. Its row is the one of the embedding that the projector's training changes, and no prompt holds it:
# the embedding is tied, so a row that ends answers must not be read.
EOS_ID, EOS_ROW = 1, "eos"
# 14 x 14 patches are pooled two by two: as in MedGemma (64 x 64, four by four), pooling has something to do.
IMAGE_TOKENS = (SIDE // PATCH // 2) ** 2
# What the stand-in with a tower of 64 patches reached before this one; the card says whether it is reached.
DEMANDED = {"mednist_kind_accuracy": 0.950, "vqa_rad_organ_accuracy": 0.880}
CONFIG: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "dtype": "bfloat16",
    "transformers_version": "4.50.0",  # without it, transformers 4.57 takes the tokenizer for a faulty Mistral one
    "text_config": TEXT_CONFIG,
    "vision_config": {**ENCODER["vision_config"], "vision_use_head": False},
    "mm_tokens_per_image": IMAGE_TOKENS,
    "image_token_index": IMAGE_TOKEN_ID,
    "boi_token_index": 255_999,
    "eoi_token_index": 256_000,
    "eos_token_id": [EOS_ID, 106],
    "tie_word_embeddings": True,
}
# Gemma's turns, in our words: the roles are "user" and "model", an image stands where <start_of_image> stands, and a
# system message opens the first user turn.
CHAT_TEMPLATE = """{{ bos_token }}
{%- set opening = "" -%}
{%- if messages and messages[0]["role"] == "system" -%}
{%- set first = messages[0]["content"] -%}
{%- set opening = (first if first is string else first[0]["text"]) ~ "\n\n" -%}
{%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
{%- if (message["role"] == "user") != (loop.index0 is even) -%}
{{ raise_exception("turns must go user, assistant, user, ...") }}
{%- endif -%}
{{ "<start_of_turn>" ~ ("model" if message["role"] == "assistant" else message["role"]) ~ "\n" }}
{{- opening if loop.first -}}
{%- if message["content"] is string -%}
{{ message["content"] | trim }}
{%- else -%}
{%- for part in message["content"] -%}
{{ "<start_of_image>" if part["type"] == "image" else part["text"] | trim }}
{%- endfor -%}
{%- endif -%}
{{ "<end_of_turn>\n" }}
{%- endfor -%}
{{- "<start_of_turn>model\n" if add_generation_prompt -}}
"""


def gemma3_processor_config(side: int, image_tokens: int) -> dict[str, Any]:
    """`preprocessor_config.json` of a Gemma 3 checkpoint for images of `side` pixels."""
    return {
        "image_processor_type": "Gemma3ImageProcessor", "processor_class": "Gemma3Processor",
        "do_resize": True, "resample": 2, "size": {"height": side, "width": side}, "do_convert_rgb": None,
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "do_pan_and_scan": None, "image_seq_length": image_tokens,
    }  # fmt: skip


def write_configuration(folder: Path, config: dict[str, Any]) -> None:
    """Everything of a multimodal Gemma 3 checkpoint but the weights and the tokenizer."""
    tokens = config["mm_tokens_per_image"]
    for name, body in {
        "config.json": config,
        "generation_config.json": {"bos_token_id": 2, "eos_token_id": config["eos_token_id"], "pad_token_id": 0},
        "preprocessor_config.json": gemma3_processor_config(config["vision_config"]["image_size"], tokens),
        "processor_config.json": {"image_seq_length": tokens, "processor_class": "Gemma3Processor"},
    }.items():
        (folder / name).write_text(json.dumps(body, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def write_medgemma_mini(
    out: Path, *, force: bool = False, projector: Path | None = PROJECTOR, seed: int = 0, width: int = WIDTH
) -> None:  # fmt: skip
    """The stand-in as a bf16 checkpoint folder, 0.55 GB.

    Args:
        out: the folder.
        force: replace it.
        projector: the trained projector; None draws a random one (what training starts from).
        seed: of the permutation, and of a random projector.
        width: of the residual stream; more channels than Gemma's own are zero and change nothing (`widen`).

    Raises:
        MissingExtraError: Gemma's package is not installed.
    """
    import torch

    with atomic_folder(out, force=force) as folder, tempfile.TemporaryDirectory(dir=folder) as scratch:
        source = assemble(Path(scratch))
        write_configuration(folder, {**CONFIG, "text_config": {**TEXT_CONFIG, "hidden_size": width}})
        write_tokenizer(read_pieces(source), folder, CHAT_TEMPLATE)
        tower, _ = unpack()
        state = {
            **permuted(read_weights(source), seed),
            **{
                f"vision_tower.{name}": values
                for name, values in tower.items()
                if name.startswith("vision_model.") and ".head." not in name
            },
        }
        if projector is not None:
            learned = load_file(projector)
            state[EMBEDDING][EOS_ID] = learned.pop(EOS_ROW)
        else:
            vision = CONFIG["vision_config"]["hidden_size"]
            start = torch.randn(vision, WIDTH, generator=torch.Generator().manual_seed(seed)) * vision**-0.5
            learned = {
                "multi_modal_projector.mm_input_projection_weight": start.numpy(),
                "multi_modal_projector.mm_soft_emb_norm.weight": np.zeros(vision, np.float32),
            }
        with ShardWriter(folder, 256 << 20) as shards:
            for name, values in widened(state | learned, width).items():
                shards.add(name, torch.from_numpy(values).to(torch.bfloat16))
