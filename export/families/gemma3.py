"""Gemma 3, which MedGemma is: how its checkpoints are opened, its tensors' published names and its parts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.bundles.facts import GeneratorFacts, Preprocessing
from ...runtime.errors import CheckpointError
from ...runtime.pictures.preprocess import SIGLIP
from ..source.checkpoint import Checkpoint, read_json
from .cut_vocabulary import renumbered


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def stop_ids(folder: Path) -> list[int]:
    """Every id that ends an answer: `generation_config.json`'s list, which is longer than the tokenizer's one."""
    for name in ("generation_config.json", "config.json"):
        found = _optional(folder / name).get("eos_token_id")
        if found is not None:
            return sorted(found) if isinstance(found, list) else [int(found)]
    raise CheckpointError(f"{folder}: neither generation_config.json nor config.json says which token ends an answer")


LAYERS_27B = 62

MODEL_TYPES = ("gemma3", "gemma3_text")


def published_name(name: str) -> str:
    """A tensor's name as Google published it, whichever version of transformers wrote the checkpoint.

    "language_model.model.*", "vision_tower.vision_model.*" and "multi_modal_projector.*"; a text-only model's
    "model.*" becomes "language_model.model.*".
    """
    if re.match(r"model\.(language_model|vision_tower|multi_modal_projector)\.", name):
        name = name.removeprefix("model.")
    if name.startswith(("model.", "lm_head.")):
        return f"language_model.{name}"
    if re.match(r"language_model\.(?!model\.|lm_head\.)", name):
        return name.replace("language_model.", "language_model.model.", 1)
    if re.match(r"vision_tower\.(?!vision_model\.)", name):
        return name.replace("vision_tower.", "vision_tower.vision_model.", 1)
    return name


def open_gemma(folder: Path) -> Checkpoint:
    """Open a Gemma 3 checkpoint, multimodal or text-only.

    Raises:
        CheckpointError: of another architecture, or damaged.
    """
    checkpoint = Checkpoint.open(folder)
    if (kind := checkpoint.config.get("model_type")) not in MODEL_TYPES:
        raise CheckpointError(f"{folder / 'config.json'}: the model is of type {kind!r}, expected 'gemma3'")
    return checkpoint


def refuse_language_model(checkpoint: Checkpoint) -> None:
    """For commands that take an encoder.

    Args:
        checkpoint: what a user gave.

    Raises:
        CheckpointError: the checkpoint is a language model.
    """
    if (kind := checkpoint.config.get("model_type")) in MODEL_TYPES:
        path = checkpoint.folder / "config.json"
        raise CheckpointError(f"{path}: the model is of type {kind!r}, a language model: use 'medge export medgemma'")


def text_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The language model's part of the configuration, with transformers' defaults where it is silent.

    Published files state only what differs from `Gemma3TextConfig`'s defaults.
    """
    defaults = {
        "vocab_size": 262_208, "max_position_embeddings": 131_072, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0, "sliding_window": 4096,
        "rope_local_base_freq": 10_000.0, "query_pre_attn_scalar": 256,
    }  # fmt: skip
    config: dict[str, Any] = {**defaults, **checkpoint.config.get("text_config", checkpoint.config)}
    # transformers 5 keeps both bases in one mapping.
    rope = config.get("rope_parameters") or {}
    for kind, key in (("full_attention", "rope_theta"), ("sliding_attention", "rope_local_base_freq")):
        if isinstance(rope.get(kind), dict):
            config[key] = rope[kind].get("rope_theta", config[key])
    return config


def vision_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The vision tower's part of the configuration.

    Raises:
        CheckpointError: the model is text-only.
    """
    found = checkpoint.config.get("vision_config")
    if not isinstance(found, dict):
        raise CheckpointError(f"{checkpoint.folder}: the model is text-only; it has no vision tower to export")
    return found


def image_tokens(checkpoint: Checkpoint) -> int:
    """Tokens that one image becomes."""
    path = checkpoint.folder / "preprocessor_config.json"
    told = read_json(path).get("image_seq_length") if path.is_file() else None
    return int(told or checkpoint.config.get("mm_tokens_per_image", 256))


PROFILE = "finetune-pil"  # bilinear with antialiasing: what Gemma 3's image processor does


def generator_facts(checkpoint: Checkpoint) -> GeneratorFacts:
    config, vision = text_config(checkpoint), checkpoint.config.get("vision_config")
    parameters = sum(int(np.prod(checkpoint.shape(name))) for name in checkpoint.shards)
    return GeneratorFacts(
        family="gemma3", parameters=parameters, layers=config["num_hidden_layers"], width=config["hidden_size"],
        kv_heads=config["num_key_value_heads"], head_size=config["head_dim"], window=config["sliding_window"],
        global_every=6, context_length=config["max_position_embeddings"], vocabulary=config["vocab_size"],
        image_size=vision["image_size"] if vision else 0, image_tokens=image_tokens(checkpoint) if vision else 0,
        patch_size=vision["patch_size"] if vision else 0, stop_ids=tuple(renumbered(checkpoint, stop_ids(checkpoint.folder))),
    )  # fmt: skip


def generator_preprocessing(checkpoint: Checkpoint) -> Preprocessing | None:
    """What the manifest says of images; None where the model reads text only."""
    if "vision_config" not in checkpoint.config:
        return None
    return Preprocessing(PROFILE, SIGLIP.mean, SIGLIP.std)
