"""Small SigLIP checkpoints, for tests that say nothing of a model's answers."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

WEIGHTS = "model.safetensors"


def write_shallow(checkpoint: Path, out: Path, layers: int = 1) -> None:
    """A copy whose towers have only their first blocks: it is exported in seconds."""
    shutil.copytree(checkpoint, out, ignore=shutil.ignore_patterns(WEIGHTS))
    config = json.loads((checkpoint / "config.json").read_text())
    for tower in ("vision_config", "text_config"):
        config[tower]["num_hidden_layers"] = layers
    (out / "config.json").write_text(json.dumps(config))
    block = re.compile(r"\.layers\.(\d+)\.")
    tensors = load_file(checkpoint / WEIGHTS)
    kept = {name for name in tensors if not (found := block.search(name)) or int(found[1]) < layers}
    save_file({name: tensors[name] for name in kept}, out / WEIGHTS, {"format": "pt"})


def first_blocks(tower: Any, layers: int) -> Any:
    """A copy of one of transformers' towers with only its first blocks."""
    short = copy.deepcopy(tower)
    short.encoder.layers, short.config.num_hidden_layers = short.encoder.layers[:layers], layers
    return short


def tiny_tower() -> Any:
    """A vision tower of 16 patches and two blocks with random weights, its biases and norms among them."""
    import torch
    from transformers import SiglipVisionConfig, SiglipVisionModel

    from medge.export.families.transformers_versions import vision_transformer

    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=56, patch_size=14
    )
    config._attn_implementation = "eager"
    tower = vision_transformer(SiglipVisionModel(config))
    with torch.no_grad():
        for parameter in tower.parameters():  # what is zero or one in a fresh model would hide faults
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return tower.eval().requires_grad_(False)
