"""Folders of pictures, one for each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...errors import TaskError
from ...pictures.images import find_images
from ..items import Found, Item, Part
from .table import check_pattern, first_bracket


@dataclass(frozen=True)
class ClassFolders:
    """A folder for each class, in one folder or in one for each side of the split.

    Attributes:
        test: alternatives of the folder that holds the test side's classes; "." is the data folder.
        train: likewise, of the training side.
        group: a pattern whose first bracket is the patient or slide in a file's name; "" where the name does not say it.
    """

    test: tuple[str, ...] = ("test", ".")
    train: tuple[str, ...] = ("train",)
    group: str = ""

    def __post_init__(self) -> None:
        check_pattern(self.group)

    def read(self, folder: Path, task: str, labels: Mapping[str, str]) -> Found:
        """The items of a folder.

        Args:
            folder: where the data lie.
            task: its name, for errors.
            labels: {folder's name: label}; empty where the folders say what the labels are.

        Raises:
            TaskError: there are no such folders with pictures.
        """
        test, train = self._side(folder, self.test), self._side(folder, self.train)
        if test is None:
            raise TaskError(
                f"{folder}: the task '{task}' needs {' or '.join(self.test)} in there, with a folder a label"
            )
        known = dict(labels) or {name: name for side in (test, train) if side is not None for name in _names(side)}
        if not labels and test == folder:
            known = {name: label for name, label in known.items() if folder / name != train}
        unlisted: Counter[str] = Counter()
        items = list(self._items(folder, test, "test", known, unlisted))
        if train is not None and train != test:
            items += self._items(folder, train, "train", known, unlisted)
        if not any(item.part == "test" for item in items):
            raise TaskError(
                f"{test}: no picture in a folder of a label that the task '{task}' knows; expected a folder a label, "
                f"such as {', '.join(list(labels)[:5]) or 'pneumonia/ and normal/'}"
            )
        return Found(items, 0, unlisted, train is not None)

    def _side(self, folder: Path, names: tuple[str, ...]) -> Path | None:
        return next((folder / name for name in names if (folder / name).is_dir()), None)

    def _items(
        self, folder: Path, side: Path, part: Part, labels: Mapping[str, str], unlisted: Counter[str]
    ) -> Iterator[Item]:
        for name in _names(side):
            paths = list(find_images([side / name]))
            # Some copies write the folders' names in small letters.
            own = labels.get(name, labels.get(name.upper()))
            if own is None:
                unlisted[name] += len(paths)
                continue
            truth = {label: label == own for label in labels.values()}
            for path in paths:
                group = first_bracket(self.group, path.name) if self.group else ""
                yield Item(path.relative_to(folder).as_posix(), partial(Path, path), truth, group, {}, part)


def _names(side: Path) -> list[str]:
    return sorted(sub.name for sub in side.iterdir() if sub.is_dir() and not sub.name.startswith("."))
