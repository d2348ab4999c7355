"""MedgeKit, compiled and tested on Linux by Debian's Swift: golden pixels, and the scores of a label bank.

Apple's CoreML and CoreVideo are not there: `stubs/` holds as much of them as MedgeKit calls, so Apple's real signatures stay
unchecked, and no package is run. In a model's place a stub answers with the sums of the image's colours.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from colours import Colours, write_package
from swift_compiler import HERE, Swift

from medge.runtime.golden.phantom import phantom


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Swift package as an export writes it, and the stubs as two more of its targets."""
    bundle = tmp_path_factory.mktemp("swift")
    encoder = Colours()
    write_package(encoder, bundle)
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
    embedding = encoder.embed(phantom())
    logits = encoder.logits(embedding)
    powers = np.exp(logits - logits.max())
    rows = [
        {"label": name, "cosine": float(cosine), "softmax": float(share), "sigmoid": float(1 / (1 + np.exp(-logit)))}
        for name, cosine, share, logit in zip(
            encoder.label_bank.names,
            encoder.label_bank.embeddings @ embedding,
            powers / powers.sum(),
            logits,
            strict=True,
        )
    ]
    path.write_text(json.dumps(rows))


def test_medgekit_compiles_and_gives_pythons_pixels_and_scores(swift: Swift, package: Path) -> None:
    done = swift.run(package, "swift", "test", "-j", "2", "--package-path", "coreml/MedgeKit")
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
