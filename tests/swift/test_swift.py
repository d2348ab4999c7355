"""MedgeKit, compiled and tested on Linux by Debian's Swift: golden pixels, and the scores of a label bank.

Apple's CoreML and CoreVideo are not there: `stubs/` holds as much of them as MedgeKit calls, so Apple's real signatures stay
unchecked, and no package is run. In a model's place a stub answers with the sums of the image's colours.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from medge.export.to_coreml.swift_package import write_swift
from medge.runtime.bundles.bundle import BundleWriter
from medge.runtime.encoder.encoder import Encoder
from medge.runtime.golden.phantom import phantom
from medge.runtime.pictures.preprocess import PROFILES

HERE = Path(__file__).parent
SIDE = 56
PROFILE = "finetune-pil"


@dataclass
class Folder:
    """Files as a bundle's writer places them."""

    root: Path

    def add(self, path: str, role: str) -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


@dataclass
class Colours:
    """An encoder whose embedding is the sums of an image's red, green and blue bytes, as the stub's."""

    manifest: Any = field(
        default_factory=lambda: SimpleNamespace(
            profile=PROFILE, encoder=SimpleNamespace(image_size=SIDE, logit_scale=10.0, logit_bias=-9.0)
        )
    )
    towers: Any = field(
        default_factory=lambda: {
            "vision": SimpleNamespace(inputs=["image"], output="embedding", golden=SimpleNamespace(cosine=0.99999))
        }
    )
    label_bank: Any = field(
        default_factory=lambda: SimpleNamespace(
            names=("red", "blue"), embeddings=np.array([[1, 0, 0], [0, 0.6, 0.8]], np.float32)
        )
    )

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return PROFILES[PROFILE].resize(image, SIDE)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return pixels.astype(np.float32)

    def embed_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        sums = pixels.sum(axis=(1, 2), dtype=np.float64)
        return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Swift package as an export writes it, and the stubs as two more of its targets."""
    bundle = tmp_path_factory.mktemp("swift")
    encoder = Colours()
    write_swift(cast("BundleWriter", Folder(bundle)), cast("Encoder", encoder))
    folder = bundle / "coreml/MedgeKit"
    for name in ("CoreML", "CoreVideo"):
        shutil.copytree(HERE / "stubs" / name, folder / "Sources" / name)
    manifest = folder / "Package.swift"
    target = '.target(name: "MedgeKit"),'
    text = manifest.read_text(encoding="utf-8")
    assert target in text
    stubs = '.target(name: "CoreVideo"), .target(name: "CoreML", dependencies: ["CoreVideo"]),'
    stubs += '.target(name: "MedgeKit", dependencies: ["CoreML", "CoreVideo"]),'
    manifest.write_text(text.replace(target, stubs), encoding="utf-8")
    shutil.copy(HERE / "ScoresTests.swift", folder / "Tests/MedgeKitTests/ScoresTests.swift")
    write_expected(encoder, bundle / "scores.json")
    return bundle


def write_expected(encoder: Colours, path: Path) -> None:
    """What `ScoresTests.swift` must compute of the golden picture: this side's cosine, softmax and sigmoid of each label."""
    embedding = encoder.embed_pixels(encoder.normalise(encoder.resize(phantom()))[None])[0]
    cosines = encoder.label_bank.embeddings @ embedding
    facts = encoder.manifest.encoder
    logits = facts.logit_scale * cosines + facts.logit_bias
    powers = np.exp(logits - logits.max())
    rows = [
        {"label": name, "cosine": float(cosine), "softmax": float(share), "sigmoid": float(1 / (1 + np.exp(-logit)))}
        for name, cosine, share, logit in zip(
            encoder.label_bank.names, cosines, powers / powers.sum(), logits, strict=True
        )
    ]
    path.write_text(json.dumps(rows))


def test_medgekit_compiles_and_gives_pythons_pixels_and_scores(
    swift: Callable[..., subprocess.CompletedProcess[str]], package: Path
) -> None:
    done = swift(package, "swift", "test", "-j", "2", "--package-path", "coreml/MedgeKit")
    said = done.stdout
    assert done.returncode == 0, said[-6000:]
    written = "\n".join(
        path.read_text(encoding="utf-8") for path in (package / "coreml/MedgeKit/Tests").rglob("*.swift")
    )
    tests = re.findall(r"func (test\w+)\(", written)
    assert len(tests) >= 3
    for name in tests:
        assert re.search(rf"{name}\S* passed", said), name
    assert "warning:" not in said, said[-6000:]
