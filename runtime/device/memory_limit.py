"""What Linux control groups leave this process of the machine's memory: a container's limit, or a systemd unit's `MemoryMax`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNLIMITED = 1 << 60  # version 1 has a number near 2**63 where there is no limit


@dataclass(frozen=True)
class MemoryLimit:
    """Of one group, in bytes.

    Attributes:
        most: what its processes may have together.
        used: what they have, without the pages of files that nobody has read twice: the kernel drops those first.
    """

    most: int
    used: int


@dataclass(frozen=True)
class _Version:
    folders: tuple[str, ...]  # where the hierarchy is usually mounted
    most: str
    used: str
    droppable: str  # a line of memory.stat, which counts the groups within as well


_SECOND = _Version(("sys/fs/cgroup", "sys/fs/cgroup/unified"), "memory.max", "memory.current", "inactive_file")
_FIRST = _Version(("sys/fs/cgroup/memory",), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def memory_limits(root: Path = Path("/")) -> list[MemoryLimit]:
    """The limits of the group that this process is in, and of every group that this one lies in.

    Each of them holds. Both versions of control groups are read; where there are none, as on other systems, the list is empty.

    Args:
        root: where /proc and /sys lie.

    Sources:
        docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/memory.html.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    limits: list[MemoryLimit] = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = _FIRST if controllers else _SECOND
        for folder in version.folders:
            limits += _of_group(root / folder, PurePosixPath(group), version)
    return limits


def _of_group(mounted: Path, group: PurePosixPath, version: _Version) -> Iterator[MemoryLimit]:
    # In a container the path may be the host's, and the container's own group is what lies at the top.
    for path in (group, *group.parents):
        folder = mounted / path.relative_to("/")
        most, used = _number(folder / version.most), _number(folder / version.used)
        if most is not None and used is not None and most < UNLIMITED:
            yield MemoryLimit(most, max(0, used - _droppable(folder / "memory.stat", version.droppable)))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None


def _droppable(path: Path, name: str) -> int:
    try:
        stat = dict(line.split() for line in path.read_text().splitlines())
        return int(stat.get(name, 0))
    except (OSError, ValueError):
        return 0
