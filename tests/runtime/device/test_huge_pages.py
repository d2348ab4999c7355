"""Large pages are asked for where a model's memory lies, and nowhere else."""

from __future__ import annotations

import ctypes
import mmap
import re
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
        first = ctypes.c_char.from_buffer(memory)
        place = ctypes.addressof(first)
        loading = huge_pages.asked_once()
        assert not advised(place)
        assert next(loading)
        assert next(loading)  # the second time, nothing is asked
        assert advised(place)
        del first  # else the memory can't be given back


def advised(address: int) -> bool:
    """Whether large pages were asked for where an address lies."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= address < int(found[2], 16)
        elif inside and line.startswith("VmFlags"):
            return "hg" in line.split()
    raise AssertionError(f"nothing is mapped at {address:x}")
