"""Keys, trust folders and small bundles to sign: a few files of random bytes under a manifest that is right."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path

from medge.runtime.bundles.bundle import new_bundle
from medge.runtime.bundles.facts import (
    Artefact,
    EncoderFacts,
    GoldenBound,
    Preprocessing,
    Source,
    TokenizerFacts,
    TowerFacts,
)
from medge.runtime.bundles.gates import GateResult, ParitySummary
from medge.runtime.bundles.manifest import Manifest
from medge.runtime.trust.keys import PrivateKey
from medge.runtime.trust.trust import Trust, make_trust

VISION = "onnx/vision_model.onnx"
FILES = {VISION: ("vision", 30_000), "golden.safetensors": ("golden", 5_000), "tokenizer.json": ("tokenizer", 700)}


def write_signable(folder: Path, *, seed: int = 0, files: Mapping[str, tuple[str, int]] | None = None) -> Path:
    """A bundle that opens, passed by its own word; no engine reads its files."""
    draw = random.Random(seed)
    gate = GateResult("vision.cosine.min", ">=", 0.9, 1.0, passed=True)
    parity = ParitySummary("passed", (), images=1, texts=0, labelled=False, held_back=True, machine={}, gates=(gate,))
    tower = TowerFacts("fp16", VISION, "onnx", GoldenBound("min", 0.99), ("pixel_values",), "out")
    manifest = Manifest(
        kind="encoder", name=folder.name,
        model=EncoderFacts("siglip", 8, 28, 14, 9, TokenizerFacts(4, 1, 0), 10.0, -4.0, 100),
        preprocessing=Preprocessing("eval-tf", (0.5,) * 3, (0.5,) * 3), target="any", source=Source("mini", {}, ""),
        artefacts={"onnx": Artefact({"vision": tower}, parity)},
    )  # fmt: skip
    with new_bundle(folder) as writer:
        for path, (role, size) in (files or FILES).items():
            writer.add(path, role).write_bytes(draw.randbytes(size))
        writer.finish(manifest)
    return folder


def make_key(folder: Path, name: str) -> PrivateKey:
    """A key pair `name.key` and `name.pub`."""
    PrivateKey.make(folder / f"{name}.key", name)
    return PrivateKey.read(folder / f"{name}.key")


def trusting(folder: Path, *public: Path, policy: str = "refuse") -> Trust:
    """A trust folder with these keys."""
    made = make_trust(folder, policy)
    for path in public:
        made.add(path)
    return Trust.open(folder)


def fingerprint(key: PrivateKey) -> str:
    return hashlib.sha256(key.public_pem.encode()).hexdigest()
