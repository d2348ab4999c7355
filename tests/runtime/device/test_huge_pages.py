"""Large pages are asked for where a model's memory lies, and nowhere else."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from medge.runtime.device import huge_pages

MAPS = """\
55d0c8a00000-55d0c8c00000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000200000 rw-p 00000000 00:00 0 
7f0000200000-7f00003ff000 rw-p 00000000 00:00 0 
7f0001000000-7f0002000000 r--p 00000000 00:00 0 
7f0003000000-7f0004000000 rw-p 00000000 fe:00 77                         /model.gguf
7f0005000000-7f0005a00000 rw-p 00000000 00:00 0 
"""


def test_only_large_writable_memory_without_a_file_counts() -> None:
    assert huge_pages.large_regions(MAPS) == [(0x7F0000000000, 0x200000), (0x7F0005000000, 0xA00000)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="large pages are asked for on Linux only")
def test_memory_taken_before_loading_is_advised() -> None:
    with mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        loading = huge_pages.asked_once()
        before = Path("/proc/self/smaps").read_text()
        assert next(loading)
        assert next(loading)  # the second time, nothing is asked
        memory[0] = 1
        after = Path("/proc/self/smaps").read_text()

    def advised(smaps: str) -> int:
        return sum("hg" in line.split() for line in smaps.splitlines() if line.startswith("VmFlags"))

    assert advised(after) > advised(before)
