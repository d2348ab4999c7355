"""What control groups leave a process: both versions, groups within groups, and containers that see the host's paths."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from medge.runtime.device.memory_limit import MemoryLimit, memory_limits

FIRST = Path("/sys/fs/cgroup/memory")
MB = 1 << 20


def group(folder: Path, most: str, used: int, stat: str = "", *, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, value in zip(names, (most, str(used)), strict=True):
        (folder / name).write_text(value + "\n")
    (folder / "memory.stat").write_text(stat)


def own(root: Path, lines: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)


def test_a_service_and_the_slice_around_it(tmp_path: Path) -> None:
    own(tmp_path, "0::/system.slice/medge-station.service\n")
    top = tmp_path / "sys/fs/cgroup"
    group(top / "system.slice", str(3000 * MB), 700 * MB)
    group(top / "system.slice/medge-station.service", str(800 * MB), 500 * MB, f"anon 7\ninactive_file {200 * MB}\n")
    group(top / "system.slice/other.service", str(1 * MB), 0)
    assert memory_limits(tmp_path) == [MemoryLimit(800 * MB, 300 * MB), MemoryLimit(3000 * MB, 700 * MB)]


def test_no_limit(tmp_path: Path) -> None:
    assert memory_limits(tmp_path) == []  # no control groups at all
    own(tmp_path, "0::/user.slice\n")
    group(tmp_path / "sys/fs/cgroup/user.slice", "max", 5)
    assert memory_limits(tmp_path) == []


@pytest.mark.parametrize("lines", ["0::/\n", "0::/docker/0123abcd\n"])
def test_a_container_whose_group_lies_at_the_top(tmp_path: Path, lines: str) -> None:
    own(tmp_path, lines)
    group(tmp_path / "sys/fs/cgroup", str(500 * MB), 100 * MB)
    assert memory_limits(tmp_path) == [MemoryLimit(500 * MB, 100 * MB)]


def test_the_first_version(tmp_path: Path) -> None:
    own(tmp_path, "9:cpu:/elsewhere\n4:memory:/clinic\n0::/\n")
    top = tmp_path / "sys/fs/cgroup/memory"
    group(top, "9223372036854771712", 5, version=1)
    group(top / "clinic", str(600 * MB), 90 * MB, f"inactive_file 1\ntotal_inactive_file {40 * MB}\n", version=1)
    group(top / "elsewhere", "1", 1, version=1)
    assert memory_limits(tmp_path) == [MemoryLimit(600 * MB, 50 * MB)]


@pytest.fixture
def real_group() -> Iterator[Path]:
    """A control group of this machine's, for one process."""
    lines = Path("/proc/self/cgroup").read_text().splitlines() if sys.platform.startswith("linux") else []
    ours = next((line.split(":", 2)[2] for line in lines if line.split(":", 2)[1] == "memory"), None)
    if ours is None or not os.access(FIRST / ours.lstrip("/"), os.W_OK):
        pytest.skip("no control group of version 1 that this user may divide")
    folder = FIRST / ours.lstrip("/") / f"medge-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    yield folder
    folder.rmdir()


def test_the_kernel_is_asked(real_group: Path) -> None:
    (real_group / "memory.limit_in_bytes").write_text(str(300 * MB))
    code = (
        "import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid())); "
        "from medge.runtime.generator.planner import Device; here = Device.here(); "
        "print(here.memory_total, here.memory_free)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(real_group)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    total, free = map(int, done.stdout.split())
    assert total == 300 * MB
    assert 150 * MB < free < 300 * MB
