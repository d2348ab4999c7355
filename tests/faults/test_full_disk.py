"""A disk that is full, and one that can't be written: one sentence, and nothing under the final name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def mounted(place: Path, options: str, words: list[object]) -> subprocess.CompletedProcess[str]:
    """Run medge in a mount namespace of its own where `place` is a small disk in memory."""
    alone = next((
        words for words in (["unshare", "-m"], ["unshare", "-rm"])
        if shutil.which("unshare") and subprocess.run(
            [*words, "sh", "-c", 'mount -t tmpfs -o size=64k none "$0"', place], capture_output=True, check=False
        ).returncode == 0
    ), None)  # fmt: skip
    if alone is None:
        pytest.skip("this machine lets nobody mount a disk in memory (unshare -rm)")
    script = (
        f'mount -t tmpfs -o size=2m none "$0" && mount -o remount,{options} "$0" && cd "$0" && "$@"; code=$?\n'
        'find "$0" -mindepth 1 | sed "s/^/LEFT /"; exit $code'
    )
    return subprocess.run(
        [*alone, "sh", "-c", script, str(place), sys.executable, "-m", "medge", *map(str, words)], capture_output=True, text=True,
        check=False, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("options", ["size=4k", "ro"])
@pytest.mark.parametrize("command", ["embed", "probe fit", "index build", "classify", "golden"])
def test_a_disk_that_takes_nothing_more(
    bundle: Path, few_images: Path, tmp_path: Path, command: str, options: str
) -> None:
    place, labelled = tmp_path / "disk", tmp_path / "labelled"
    place.mkdir()
    for number, name in enumerate(("CT_small", "CT_small", "MR_small", "MR_small")):
        (labelled / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(few_images / f"{name}.dcm", labelled / name / f"{number}.dcm")
    words: dict[str, list[object]] = {
        "embed": ["embed", bundle, few_images, "--out", "deep/e.safetensors"],
        "probe fit": ["probe", "fit", bundle, labelled, "--out", "deep/p.safetensors"],
        "index build": ["index", "build", bundle, "deep/a.index", few_images],
        "classify": ["classify", bundle, few_images, "--out", "deep/r.jsonl"],
        "golden": ["golden", bundle, "--out", "deep/golden", "--images", few_images],
    }  # fmt: skip
    done = mounted(place, options, words[command])
    if command == "probe fit" and options == "size=4k" and done.returncode == 0:
        return  # two small matrices: they fit
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("medge: writing "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "no space left" in done.stderr if options != "ro" else "Read-only file system" in done.stderr
    left = {Path(line.removeprefix("LEFT ")).name for line in done.stdout.splitlines() if line.startswith("LEFT ")}
    # Rows that were written before, and an index on its way: both are gone on with.
    assert left <= {"deep", "r.jsonl", ".a.index.building", ".e.safetensors.rows"}
