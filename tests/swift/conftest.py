"""What tests of MedgeKit share: Debian's Swift, in a root of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SWIFT = Path(os.environ.get("MEDGE_SWIFT", Path.home() / ".cache/medge/swift"))


@pytest.fixture(scope="session")
def swift() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of Swift's in a folder, which it sees as /package; both streams are in its `stdout`."""
    if not (SWIFT / "root/.ready").is_file():
        pytest.skip(f"no Swift in {SWIFT}: bash tests/swift/prepare {SWIFT}")

    def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", HERE / "inside", SWIFT / "root", folder, *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=540,
        )  # fmt: skip

    return run
