"""The sound files that the campaign changes: small bundles with random weights, made by the exporter of this very checkout.

Nothing of them is committed, so that they are always what today's exporter writes. Making them takes some seconds of torch; they
are kept in a folder that is named by the sources they were made from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from gemma_shapes import TEXT, VISION

ROOT = Path(__file__).parents[2]
ROOMS = ("export", "quant", "runtime")
ENCODER, READER, ONNX_READER = "encoder", "reader", "onnx-reader"
PIECES = 640  # of MedSigLIP's 32,000, so that a tokenizer is read in a millisecond

_TOWER = {"hidden_size": 64, "num_attention_heads": 1, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
          "intermediate_size": 80, "num_hidden_layers": 1}  # fmt: skip
SIGLIP: dict[str, Any] = {
    "architectures": ["SiglipModel"],
    "model_type": "siglip",
    "vision_config": {**_TOWER, "model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14, "num_channels": 3},
    "text_config": {
        **_TOWER, "model_type": "siglip_text_model", "vocab_size": PIECES, "max_position_embeddings": 64,
        "projection_size": 64, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1,
    },
}  # fmt: skip
GEMMA_TEXT = {**TEXT, "num_hidden_layers": 2}
GEMMA_VISION = {**VISION, "num_hidden_layers": 1}
LABELS = {"normal": ["a normal film"], "pneumonia": ["a film with pneumonia", "pneumonia"], "effusion": ["an effusion"]}


def prepare(keep: Path) -> Path:
    """The folder with all bundles, made where it is not there yet.

    Args:
        keep: where such folders are kept; those of other sources are removed.
    """
    made_by = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    made_by += [
        *(ROOT / "tests").glob("gemma_*.py"),
        *(ROOT / "tests/fuzz" / name for name in ("base.py", "bundles.py")),
    ]
    folder = keep / f"base-{_sha256(made_by)[:16]}"
    if not (folder / "ready").is_file():
        keep.mkdir(parents=True, exist_ok=True)
        for old in keep.glob("base-*"):
            shutil.rmtree(old, ignore_errors=True)
        print("making the bundles that are changed ...", file=sys.stderr)
        write(folder)
        (folder / "ready").touch()
    return folder


def sources() -> str:
    """SHA-256 of all Python files of the three rooms and of the campaign: what a result belongs to."""
    return _sha256([path for room in (*ROOMS, "tests/fuzz") for path in (ROOT / room).rglob("*.py")])


def _sha256(paths: Iterable[Path]) -> str:
    made = hashlib.sha256()
    for path in sorted(paths):
        made.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return made.hexdigest()


def write(folder: Path) -> None:
    """Export the bundles, in a process of its own: the campaign forks, and must have loaded neither torch nor an engine."""
    words = [sys.executable, "-W", "ignore", "-m", "fuzz.base", str(folder)]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the bundles that are changed could not be made:\n{done.stderr[-3000:]}")


def _write(folder: Path) -> None:
    from gemma_checkpoints import write_small_gemma

    from medge.export.jobs.encoder import export_medsiglip
    from medge.export.jobs.encoder_job import ExportJob
    from medge.export.jobs.generator import export_medgemma
    from medge.export.jobs.generator_job import GeneratorJob

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        _write_siglip(place / "siglip")
        write_small_gemma(place / "gemma", GEMMA_TEXT, GEMMA_VISION)
        images = _write_images(place / "images")
        labels = place / "labels.json"
        labels.write_text(json.dumps(LABELS))
        export_medsiglip(ExportJob(place / "siglip", folder / ENCODER, "int8", calibration=images, labels=labels))
        export_medgemma(GeneratorJob(place / "gemma", folder / READER, "f16", skip_parity=True))
        recipe = "language=f16,projector=int8"
        export_medgemma(GeneratorJob(place / "gemma", folder / ONNX_READER, recipe, images=images, skip_parity=True))


def _write_images(folder: Path) -> Path:
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def _write_siglip(folder: Path) -> None:
    import torch
    from safetensors.numpy import save_file
    from transformers import SiglipConfig, SiglipModel

    from medge.export.standin.medsiglip.packed import unpack
    from medge.export.standin.write import _write_common

    _, tokenizer = unpack()
    body = json.loads(tokenizer.to_str())
    body["model"]["vocab"] = body["model"]["vocab"][:PIECES]
    folder.mkdir()
    _write_common(folder, SIGLIP, json.dumps(body))
    torch.manual_seed(0)
    state = SiglipModel(SiglipConfig(**SIGLIP)).state_dict()
    tensors = {
        name: (tensor + 0.02 * torch.randn_like(tensor)).numpy()
        for name, tensor in state.items()
        if "position_ids" not in name
    }
    tensors["logit_scale"], tensors["logit_bias"] = np.full(1, np.log(10), np.float32), np.full(1, -4, np.float32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    from fuzz.bundles import write_references
    from fuzz.films import write_films
    from fuzz.kinds.index import write_index
    from fuzz.kinds.pictures import write_pictures
    from fuzz.kinds.tensors import write_probe

    _write(Path(sys.argv[1]))
    write_references(Path(sys.argv[1]))
    write_index(Path(sys.argv[1]))
    write_probe(Path(sys.argv[1]))
    write_films(Path(sys.argv[1]))
    write_pictures(Path(sys.argv[1]))
