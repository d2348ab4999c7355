"""Weights in large memory pages.

A token reads every weight once, and with pages of 4 KB finding where each lies costs time, too (benchmarks/generator_speed.py
measures both, docs/results/language-full-size.md has the ratio); Linux gives pages of 2 MB to whoever asks. llama.cpp does not
ask, and its allocator can't be told to, but it reports progress after it has taken memory and before it fills it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

LARGE = 2 << 20
_MADV_HUGEPAGE = 14  # include/uapi/asm-generic/mman-common.h


def large_regions(maps: str) -> list[tuple[int, int]]:
    """Address and bytes of each writable region without a file, at least one large page long, of a /proc/PID/maps."""
    found = []
    for line in maps.splitlines():
        fields = line.split()
        start, end = (int(address, 16) for address in fields[0].split("-"))
        if fields[1].startswith("rw") and len(fields) == 5 and end - start >= LARGE:
            found.append((start, end - start))
    return found


def ask() -> int:
    """Ask for large pages wherever memory was taken and not yet filled; bytes asked for, 0 where there are none to be had."""
    if not sys.platform.startswith("linux"):
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return sum(
        size
        for start, size in large_regions(Path("/proc/self/maps").read_text())
        if madvise(start, size, _MADV_HUGEPAGE) == 0  # a kernel built without them refuses
    )


def asked_once() -> Iterator[bool]:
    """What a loader's progress callback returns each time ("go on"); large pages are asked for the first time."""
    ask()
    while True:
        yield True
