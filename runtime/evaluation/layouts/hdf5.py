"""Arrays in HDF5 files, as PatchCamelyon comes: one file of pictures and one of labels for each side of the split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import MissingExtraError, TaskError, one_line
from ..items import Found, Item, Part
from ..places import find_file, try_file
from .table import read_rows


@dataclass(frozen=True)
class HDF5:
    """A file of pictures, (N, H, W, 3) uint8, and one of as many labels, for each side.

    Attributes:
        pictures, labels: names of the files; {} stands for the side.
        picture_key, label_key: names of the arrays in them.
        facts: the name of a csv with a row a picture, in the same order; "" where there is none.
        group: its column of the slide or patient.
        test, train: how the files call the sides.
    """

    pictures: str
    labels: str
    picture_key: str
    label_key: str
    facts: str = ""
    group: str = ""
    test: str = "test"
    train: str = "train"

    def read(self, folder: Path, task: str, labels: Mapping[str, str]) -> Found:
        """The items of a folder.

        Args:
            folder: where the data lie.
            task: its name, for errors.
            labels: {number: label}.

        Raises:
            TaskError: a file is missing, or holds other arrays.
            MissingExtraError: h5py is not installed.
        """
        items = list(self._side(folder, task, labels, self.test, "test"))
        trained = try_file(folder, [self.pictures.format(self.train)]) is not None
        if trained:
            items += self._side(folder, task, labels, self.train, "train")
        return Found(items, has_split=trained)

    def _side(self, folder: Path, task: str, labels: Mapping[str, str], side: str, part: Part) -> Iterator[Item]:
        path = find_file(folder, [self.pictures.format(side)], task)
        pictures = _Pictures(path, self.picture_key)
        numbers = _open(find_file(folder, [self.labels.format(side)], task), self.label_key)[:].reshape(-1).tolist()
        shape = pictures.array.shape
        if len(shape) != 4 or len(numbers) != shape[0]:
            raise TaskError(f"{path}: {shape} pictures have {len(numbers)} labels; copy the files again")
        facts = try_file(folder, [self.facts.format(side)]) if self.facts else None
        groups = [row.get(self.group, "") for row in read_rows(facts)] if facts else [""] * len(numbers)
        if len(groups) != len(numbers):
            raise TaskError(f"{facts}: {len(groups)} rows for {len(numbers)} pictures; copy the files again")
        for number, (value, group) in enumerate(zip(numbers, groups, strict=True)):
            if (label := labels.get(str(int(value)))) is not None:
                truth = {name: name == label for name in labels.values()}
                yield Item(f"{side}/{number:06}", partial(pictures.__getitem__, number), truth, group, {}, part)


class _Pictures:
    """An array of a file, read from the disk where it is indexed; pickled, it is opened in another process."""

    def __init__(self, path: Path, key: str) -> None:
        self._where, self.array = (path, key), _open(path, key)

    def __getitem__(self, number: int) -> Any:
        return self.array[number]

    def __reduce__(self) -> tuple[type[_Pictures], tuple[Path, str]]:
        return _Pictures, self._where


def _open(path: Path, key: str) -> Any:
    """An array of a file, read from the disk where it is indexed."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingExtraError("h5py", "hdf5") from error
    if path.suffix == ".gz":
        raise TaskError(f"{path}: unpack it first (gunzip), arrays in a packed file can't be read one by one")
    try:
        return h5py.File(path, "r")[key]
    except (OSError, KeyError) as error:
        raise TaskError(f"{path}: no HDF5 file with the array '{key}' ({one_line(error)})") from error
