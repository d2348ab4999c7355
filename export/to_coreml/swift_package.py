"""Write the Swift package beside the CoreML packages: sources as they are, the label bank and golden values as JSON."""

from __future__ import annotations

import base64
import json
from importlib import resources
from importlib.resources.abc import Traversable

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles.bundle import BundleWriter
from ...runtime.encoder.encoder import Encoder
from ...runtime.golden.decisions import write_decisions
from ...runtime.golden.phantom import SHAPES, phantom, phantom_16
from ...runtime.pictures.preprocess import PROFILES
from .packages import FOLDER

SIDE = 16  # of the golden pictures' results: small, and on both sides of Pillow's rule which direction goes first


def write_swift(writer: BundleWriter, encoder: Encoder) -> None:
    """Add `coreml/MedgeKit` and `coreml/bank.json` to a half-made bundle; without labels, there is no bank to classify by.

    Args:
        encoder: runs the bundle's packages.
    """
    root = resources.files(__package__) / "swift"
    for path, text in _files(root):
        writer.add(f"{FOLDER}/MedgeKit/{path}", "package.swift").write_text(text, encoding="utf-8")
    manifest, tower = encoder.manifest, encoder.towers["vision"]
    bank = encoder.label_bank
    facts = {
        "input": tower.inputs[0], "output": tower.output, "profile": manifest.profile, "imageSize": manifest.encoder.image_size,
        "logitScale": manifest.encoder.logit_scale, "logitBias": manifest.encoder.logit_bias,
        "labels": list(bank.names) if bank else [],
        "embeddings": bank.embeddings.astype(float).tolist() if bank else [],
    }  # fmt: skip
    writer.add(f"{FOLDER}/bank.json", "package.bank").write_text(
        json.dumps(facts, ensure_ascii=False), encoding="utf-8"
    )
    source = phantom()
    pixels = encoder.resize(source)
    golden = {
        "width": source.shape[1], "height": source.shape[0], "pixels": _base64(pixels),
        "embedding": encoder.embed_pixels(encoder.normalise(pixels)[None])[0].astype(float).tolist(),
        "leastCosine": tower.golden.cosine, "side": SIDE, "pictures": golden_pictures(),
    }  # fmt: skip
    tests = f"{FOLDER}/MedgeKit/Tests/MedgeKitTests"
    writer.add(f"{tests}/golden.json", "package.swift").write_text(json.dumps(golden))
    write_decisions(writer.add(f"{tests}/decisions.json", "package.swift"))


def golden_pictures() -> list[dict[str, int | str]]:
    """What each profile makes of each golden picture of 8 and of 16 bits, at `SIDE`; Swift draws the pictures itself."""
    return [
        {
            "height": source.shape[0], "width": source.shape[1], "bits": 8 * source.itemsize, "profile": profile.name,
            "pixels": _base64(profile.resize(source, SIDE)),
        }
        for shape in SHAPES
        for source in (phantom(*shape), phantom_16(*shape))
        for profile in PROFILES.values()
    ]  # fmt: skip


def _base64(pixels: NDArray[np.uint8]) -> str:
    return base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode()


def _files(folder: Traversable, prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for item in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if item.is_dir():
            found += _files(item, f"{prefix}{item.name}/")
        elif item.name.endswith((".swift", ".md")):
            found.append((f"{prefix}{item.name}", item.read_text(encoding="utf-8")))
    return found
