"""Where the files of a downloaded set lie: people unpack the same archives into different folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from ..errors import TaskError
from ..pictures.endings import READ

NO_IMAGE = "image not in the folder"  # why an entry is left out


def find_file(folder: Path, names: Sequence[str], task: str) -> Path:
    """The first of these files that is in a folder, or below it; gzipped ones as well.

    Args:
        folder: where the data lie.
        names: alternatives; `*` stands for anything.
        task: whose data they are, for the error.

    Raises:
        TaskError: none of them is there.
    """
    found = try_file(folder, names)
    if found is None:
        raise _missing(folder, names, task)
    return found


def find_files(folder: Path, patterns: Sequence[str], task: str) -> list[Path]:
    """All files of the first of these patterns that has any, in a folder or in one of its folders.

    Args:
        folder: where the data lie.
        patterns: alternatives; `*` stands for anything.
        task: whose data they are, for the error.

    Raises:
        TaskError: none of them has any.
    """
    for pattern in patterns:
        if found := sorted({*folder.glob(pattern), *folder.glob(f"*/{pattern}")}):
            return found
    raise _missing(folder, patterns, task)


def _missing(folder: Path, names: Sequence[str], task: str) -> TaskError:
    return TaskError(f"{folder}: {' or '.join(names)} is not in there, which the task '{task}' needs")


def try_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these files that is in a folder, or below it; None where there is none."""
    wanted = [form for name in names for form in (name, f"{name}.gz")]
    for pattern in (*wanted, *(f"**/{form}" for form in wanted)):
        for path in sorted(folder.glob(pattern)):
            if path.is_file():
                return path
    return None


class Pictures:
    """Finds pictures by the names that a table gives them.

    Args:
        folder: where the data lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> Path | None:
        """The picture of this name; None where it is not there.

        A name with folders is looked up as a path, then without its first folder, and so on. A bare name is looked up among all
        pictures of the folder: as it is, then with any ending, since the same picture is handed on as PNG and as JPEG.
        """
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if not parts:
            return None
        for start in range(len(parts)):
            if start and start == len(parts) - 1:
                return None  # other folders' pictures have the same bare name
            path = self.folder.joinpath(*parts[start:])
            if path.suffix.lower() in READ and path.is_file():
                return path
        return self._by_name.get(parts[-1]) or self._by_stem.get(_stem(parts[-1]))

    @cached_property
    def _by_name(self) -> dict[str, Path]:
        walk = os.walk(self.folder)
        found = [Path(where, name) for where, _, files in walk for name in files if Path(name).suffix.lower() in READ]
        return {path.name: path for path in sorted(found, reverse=True)}

    @cached_property
    def _by_stem(self) -> dict[str, Path]:
        return {_stem(name): path for name, path in self._by_name.items()}


def _stem(name: str) -> str:
    """A name without the ending of a picture; another dot belongs to the name."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in READ else name
