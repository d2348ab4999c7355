"""A residual stream with channels of zeros computes the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tolerances import WIDENED_LOGITS

pytest.importorskip("torch", reason="torch is not installed: pip install 'medge[export]'")
import torch
from safetensors.torch import load_file, save_file

from medge.export.families.generator_reference import GeneratorReference
from medge.export.standin.widen import widened
from medge.runtime.generator.prompt import Item, Picture


def in_float32(source: Path, folder: Path, wide: int) -> Path:
    """A copy of a checkpoint with a stream of `wide` channels, in float32, so that only the function could differ."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    state = {
        name: values.float().numpy()
        for path in source.glob("*.safetensors")
        for name, values in load_file(path).items()
    }
    save_file(
        {name: torch.from_numpy(values.copy()) for name, values in widened(state, wide).items()},
        folder / "model.safetensors",
    )
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_size"] = wide
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_wider_stream_gives_the_same_logits(tiny_gemma: Path, tmp_path: Path) -> None:
    """Of text and after an image."""
    picture = Picture.of(np.random.default_rng(0).integers(0, 256, (56, 56, 3)).astype(np.uint8), 4)
    items: list[Item] = [2, 105, 300, picture, 301, 302, 303, 304]
    narrow, wide = (GeneratorReference(in_float32(tiny_gemma, tmp_path / str(size), size)) for size in (32, 48))
    assert wide.model.get_input_embeddings().weight.shape[1] == 48
    expected, found = narrow.logits(items, 0), wide.logits(items, 0)
    assert float(np.ptp(expected)) > 0.1  # there is something to tell apart
    np.testing.assert_allclose(found, expected, atol=WIDENED_LOGITS * float(np.abs(expected).max()))
