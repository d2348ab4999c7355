"""The wheels of what medge needs, for a machine other than this one: those that a lock names, each with its hash."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ...bundles.atomic import replace_file
from ...bundles.manifest import sha256_file
from ...errors import KitError
from .targets import LOCKS, PYTHON_VERSION, Target, cache_folder, run, target_named

_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})  # (?P<file>\S+\.whl)"
)
_EPOCH = "1577836800"  # of files in medge's own wheel: the first second of 2020


@dataclass(frozen=True)
class LockedWheel:
    """One wheel of a lock.

    Attributes:
        name, version: of the package.
        sha256: of the wheel.
        file: its name.
    """

    name: str
    version: str
    sha256: str
    file: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}  # {self.file}"


def lock_file(target: Target) -> Path:
    """Where the lock of a target's wheels lies: a list of requirements as pip reads it, a line for each wheel."""
    return LOCKS / f"packages-{target.name}.txt"


def locked_wheels(target: Target) -> tuple[LockedWheel, ...]:
    """The wheels that a target's lock names.

    Raises:
        KitError: a line of it is something else.
    """
    found = []
    for line in lock_file(target).read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            if match is None:
                raise KitError(f"{lock_file(target)} has a line that pins no wheel: {line[:80]}")
            found.append(LockedWheel(**match.groupdict()))
    return tuple(found)


def fetch_wheels(target: str, cache: Path | None = None) -> tuple[Path, ...]:
    """The wheels of everything that medge's station and its language models need, but of llama-cpp-python and medge itself.

    Args:
        target: "linux-x86_64" or "linux-aarch64".
        cache: where they are kept; `cache_folder()` by default.

    Raises:
        KitError: no such target; a wheel can't be had, or is another file than the one that was pinned.
    """
    machine = target_named(target)
    folder = (cache or cache_folder()) / "wheels" / target
    wheels = locked_wheels(machine)
    lacking = [
        one for one in wheels if not (folder / one.file).exists() or sha256_file(folder / one.file) != one.sha256
    ]
    if lacking:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as place:
            wanted = Path(place) / "wanted.txt"
            wanted.write_text("".join(f"{one}\n" for one in lacking))
            download(machine, ["--require-hashes", "-r", str(wanted)], Path(place))
            for one in lacking:
                file = Path(place) / one.file
                if not file.exists():
                    raise KitError(f"pip took another wheel of {one.name} than {one.file}, which the lock names")
                replace_file(file, folder / one.file)
    return tuple(folder / one.file for one in wheels)


def download(target: Target, wanted: list[str], folder: Path) -> None:
    """Let pip fetch wheels for a target, exactly those that are wanted.

    Raises:
        KitError: one can't be had.
    """
    platforms = [word for platform in target.platforms for word in ("--platform", platform)]
    run(
        [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
         "--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON_VERSION, *platforms,
         "-d", folder, *wanted],
        purpose=f"fetching wheels for {target.name}",
    )  # fmt: skip


def medge_wheel(repository: Path, cache: Path | None = None) -> Path:
    """medge's own wheel, of a checkout as it stands; the same bytes for the same files.

    Raises:
        KitError: the folder is no checkout of medge, or its build fails.
    """
    if not (repository / "pyproject.toml").exists() or not (repository / "src" / "medge").is_dir():
        raise KitError(f"{repository} is no checkout of medge, which a kit's own wheel is built from")
    folder = (cache or cache_folder()) / "wheels" / "medge"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder) as place:
        run(
            [
                sys.executable,
                "-m",
                "pip",
                "wheel",
                "-q",
                "--disable-pip-version-check",
                "--no-deps",
                "-w",
                place,
                repository,
            ],
            purpose="building medge's wheel",
            environment={"SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", _EPOCH)},
        )
        built = next(Path(place).glob("medge-*.whl"))
        replace_file(built, folder / built.name)
    return folder / built.name
