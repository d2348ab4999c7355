"""What tests of the Android demo share: its core, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import load_script

DEMO = Path(__file__).parents[2] / "android_demo"
build = load_script(DEMO / "ci/build.py")


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("android")


@pytest.fixture(scope="session")
def core(work: Path) -> Path:
    build.compile_core(work / "core")
    return work / "core"
