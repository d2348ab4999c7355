"""Write the stand-ins as Hugging Face checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from ...runtime.bundles.atomic import atomic_folder
from ..families.siglip import processor_config
from .medsiglip.architecture import CONFIG
from .medsiglip.packed import unpack
from .spiece import siglip_spiece

TOKENIZER_CONFIG = {
    "tokenizer_class": "SiglipTokenizer", "processor_class": "SiglipProcessor", "do_lower_case": True,
    "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>", "model_max_length": 64,
    "model_input_names": ["input_ids"], "clean_up_tokenization_spaces": True, "additional_special_tokens": [],
}  # fmt: skip


# The architecture of google/medsiglip-448 (SigLIP so400m), as its config.json states it.
_SO400M = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
    "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "attention_dropout": 0.0,
}  # fmt: skip

FULL_CONFIG: dict[str, Any] = {
    "architectures": ["SiglipModel"],
    "model_type": "siglip",
    "vision_config": {
        **_SO400M, "model_type": "siglip_vision_model", "image_size": 448, "patch_size": 14, "num_channels": 3,
    },
    "text_config": {
        **_SO400M, "model_type": "siglip_text_model", "vocab_size": 32000, "max_position_embeddings": 64,
        "projection_size": 1152, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1,
    },
}  # fmt: skip


def write_medsiglip_mini(out: Path, *, force: bool = False) -> None:
    """The trained stand-in, fp32, as a checkpoint folder.

    Args:
        out: the folder.
        force: replace it.
    """
    state, tokenizer = unpack()
    with atomic_folder(out, force=force) as folder:
        _write_common(folder, CONFIG, tokenizer.to_str())
        save_file(state, folder / "model.safetensors", {"format": "pt"})


def write_medsiglip_random(out: Path, *, force: bool = False, seed: int = 0) -> None:
    """A full-size MedSigLIP (878.3 M parameters) with random weights, in shards, for speed, size and memory only.

    Weights are drawn so that activations stay in range: normal with deviation 1/sqrt(fan in), norms at one.
    """
    import torch
    from transformers import SiglipConfig, SiglipModel

    with torch.device("meta"):
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in SiglipModel(SiglipConfig(**FULL_CONFIG)).state_dict().items()
            if not name.endswith("position_ids")
        }
    _, tokenizer = unpack()
    rng = np.random.default_rng(seed)
    with atomic_folder(out, force=force) as folder:
        _write_common(folder, FULL_CONFIG, tokenizer.to_str())
        weight_map: dict[str, str] = {}
        groups = {"vision": "vision_model.", "text": "text_model.", "logits": "logit"}
        for number, prefix in enumerate(groups.values(), 1):
            file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
            shard = {name: _draw(name, shape, rng) for name, shape in shapes.items() if name.startswith(prefix)}
            save_file(shard, folder / file, {"format": "pt"})
            weight_map |= dict.fromkeys(shard, file)
        total = 4 * sum(int(np.prod(shape)) for shape in shapes.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


def _draw(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if name == "logit_scale":
        return np.full(shape, np.log(100), np.float32)
    if name == "logit_bias":
        return np.full(shape, -10, np.float32)
    if "norm" in name:
        return (np.ones if name.endswith("weight") else np.zeros)(shape, np.float32)
    if name.endswith("bias"):
        return rng.standard_normal(shape, np.float32) * np.float32(0.02)
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
    return rng.standard_normal(shape, np.float32) * np.float32(fan_in**-0.5)


def _write_common(folder: Path, config: dict[str, Any], tokenizer: str) -> None:
    side = config["vision_config"]["image_size"]
    for name, body in {
        "config.json": config,
        "preprocessor_config.json": processor_config(side),
        "tokenizer_config.json": TOKENIZER_CONFIG,
        "special_tokens_map.json": {key: TOKENIZER_CONFIG[key] for key in ("eos_token", "pad_token", "unk_token")},
    }.items():
        (folder / name).write_text(json.dumps(body, indent=2) + "\n")
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    (folder / "spiece.model").write_bytes(siglip_spiece(tokenizer))
