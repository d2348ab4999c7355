"""A short form of benchmarks/endurance.py, and what a process that was forked after loading may do."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script


@pytest.fixture(scope="module")
def endurance() -> ModuleType:
    return load_script(Path(__file__).parents[1] / "benchmarks" / "endurance.py")


def test_classifying_keeps_nothing(endurance: ModuleType, bundle: Path, few_images: Path) -> None:
    found = endurance.classifications(bundle, few_images, 60)
    assert endurance.flat(found), found


def test_decoding_keeps_nothing(endurance: ModuleType, few_images: Path) -> None:
    found = endurance.pictures(few_images, 120)
    assert endurance.flat(found), found


def test_a_leak_is_seen(endurance: ModuleType) -> None:
    kept: list[mmap.mmap] = []

    def leak(_: int) -> None:
        kept.append(mmap.mmap(-1, 1 << 20))  # pages of its own: a list's might be those that other tests have freed
        kept[-1].write(b"x" * (1 << 20))

    found = endurance.watched(leak, 60)
    assert found["growth_bytes"] > 32 << 20
    assert not endurance.flat(found)
    opened: list[int] = []
    found = endurance.watched(lambda _: opened.append(os.open("/dev/null", os.O_RDONLY)), 60)
    assert not endurance.flat(found)
    for handle in opened:
        os.close(handle)


def test_an_encoder_is_used_in_a_fork_when_it_was_opened_there(bundle: Path, few_images: Path) -> None:
    """Loading reads a bundle and opens no session: that happens at the first use, so that a fork before it is allowed."""
    code = (
        "import os, sys; import medge\n"
        "encoder = medge.load(sys.argv[1])\n"
        "child = os.fork()\n"
        "best = encoder.classify(sys.argv[2], ['chest x-ray', 'CT of the abdomen'])[0].best\n"
        "if not child: os._exit(0 if best else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), best)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle), str(few_images / "CT_small.dcm")], capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("0 ")
