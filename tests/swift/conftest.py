"""What tests of MedgeKit share: Swift, and MedgeKit and the stubs compiled once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from swift_compiler import HERE, MEDGEKIT, STUBS, Swift


@pytest.fixture(scope="session")
def swift() -> Swift:
    folder = Path(os.environ.get("MEDGE_SWIFT", Path.home() / ".cache/medge/swift"))
    if not (folder / "root/.ready").is_file():
        pytest.skip(f"no Swift in {folder}: bash tests/swift/prepare {folder}")
    return Swift(folder / "root")


@pytest.fixture(scope="session")
def modules(swift: Swift, once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """MedgeKit and the stubs, as libraries and modules in one folder, which is only read."""

    def write(folder: Path) -> None:
        for name, uses in STUBS.items():
            swift.library(folder, name, HERE / "stubs" / name, uses)
        swift.library(folder, "MedgeKit", MEDGEKIT, ("CoreML", "CoreVideo"))

    return once("swift/modules", write)
