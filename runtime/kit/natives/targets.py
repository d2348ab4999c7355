"""The machines that a kit can be made for, how others name them, and where fetched and built parts are kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...errors import KitError, MissingExtraError, one_line

PYTHON_VERSION = "3.13"  # of the interpreter that a kit carries
LOCKS = Path(__file__).parent / "locks"
_NEWEST_LIBC = 41  # the interpreter brings glibc 2.41


@dataclass(frozen=True)
class Target:
    """A kind of machine.

    Attributes:
        name: "linux-x86_64".
        machine: as `uname -m` and wheels name it.
        debian: as Debian names it.
        triplet: the folder of its libraries.
        loader: the file name of its dynamic loader.
        variants: the CPU variants of llama.cpp that are built for it, as ggml names them.
    """

    name: str
    machine: str
    debian: str
    triplet: str
    loader: str
    variants: tuple[str, ...]

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags of wheels that the carried interpreter can load, newest first."""
        numbered = [f"manylinux_2_{minor}_{self.machine}" for minor in range(_NEWEST_LIBC, 4, -1)]
        return (*numbered, *(f"{alias}_{self.machine}" for alias in ("manylinux2014", "manylinux2010", "manylinux1")))


# Of llama.cpp's CPU variants those that differ most: a CPU of another (Cascade Lake, AMX, SME) takes the next one down,
# and building all 22 takes twice as long.
_TARGETS = (
    Target(
        "linux-x86_64", "x86_64", "amd64", "x86_64-linux-gnu", "ld-linux-x86-64.so.2",
        ("x64", "sse42", "sandybridge", "haswell", "alderlake", "skylakex", "icelake", "zen4"),
    ),
    Target(
        "linux-aarch64", "aarch64", "arm64", "aarch64-linux-gnu", "ld-linux-aarch64.so.1",
        ("armv8.0_1", "armv8.2_2", "armv8.6_1"),
    ),
)  # fmt: skip
TARGETS = tuple(target.name for target in _TARGETS)


def target_named(name: str) -> Target:
    """The target of this name.

    Raises:
        KitError: there is none.
    """
    for target in _TARGETS:
        if target.name == name:
            return target
    raise KitError(f"no kit can be made for {one_line(name)!r}; the targets are {', '.join(TARGETS)}")


def cache_folder() -> Path:
    """Where fetched and built parts are kept, for all clones: $MEDGE_KIT_CACHE, or a folder of the user's cache."""
    said = os.environ.get("MEDGE_KIT_CACHE")
    return Path(said) if said else Path.home() / ".cache" / "medge" / "kit"


class Runner(Protocol):
    """Runs a program to its end, and returns what it printed."""

    def __call__(
        self, command: Sequence[str | os.PathLike[str]], *, purpose: str, folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str: ...  # fmt: skip


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    purpose: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end.

    Args:
        command: the program and its words.
        purpose: what it is for, as in "fetching the interpreter"; the error's subject.
        folder: where it runs.
        environment: variables beside this process's own.

    Returns:
        What it printed.

    Raises:
        KitError: it is not there, or it failed; with the last line that it wrote.
    """
    program = os.fspath(command[0])
    if shutil.which(program) is None:
        raise KitError(f"{purpose} needs the program {program}, which is not on this machine")
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = next((line for line in reversed(said) if "error" in line.lower() or line.startswith("E:")), None)
        last = reason or (said[-1] if said else f"exit code {done.returncode}")
        raise KitError(f"{purpose} failed: {one_line(last)}")
    return done.stdout


def need(module: str) -> None:
    """Refuse to go on without a package of the extra `kit`.

    Raises:
        MissingExtraError: it is not installed.
    """
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(module, "kit")
