"""A CT series as MedGemma 1.5 reads it: slices in order, each windowed three ways into one RGB picture.

Windows in HU, from the model's card: R [-1024, 1024] everything, G [-135, 215] soft tissue, B [0, 80] brain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from .dicom import read_units
from .images import find_images

WINDOWS = ((-1024.0, 1024.0), (-135.0, 215.0), (0.0, 80.0))
MOST_SLICES = 85  # what the model was trained with


@dataclass(frozen=True)
class Series:
    """The slices that are shown, in order along the body.

    Attributes:
        slices: (H, W, 3) uint8 each.
        of: how many slices the series has.
        skipped: messages of the files that could not be read.
    """

    slices: list[NDArray[np.uint8]]
    of: int
    skipped: tuple[str, ...]

    @property
    def note(self) -> str:
        """One sentence on what is shown; "" where it is everything."""
        shown = len(self.slices)
        return "" if shown == self.of else f"{shown} of {self.of} slices are shown, sampled evenly"


def window_ct(hounsfield: NDArray[np.float64]) -> NDArray[np.uint8]:
    """HU values, (H, W), to the three windows as RGB, (H, W, 3): clipped, scaled to 0..255 and rounded."""
    channels = [np.clip((hounsfield - low) / (high - low), 0, 1) * 255 for low, high in WINDOWS]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def read_series(paths: Sequence[Path], most: int = MOST_SLICES) -> Series:
    """Read a CT series from its files or folders.

    Args:
        paths: DICOM files, or folders of them.
        most: at most so many slices; more are sampled evenly, the first and the last among them.

    Raises:
        ImageError: no CT slice could be read, or the files belong to several series.
    """
    found: list[tuple[float, Path]] = []
    series: dict[str, int] = {}
    skipped: list[str] = []
    for path in find_images(list(paths)):
        try:
            place, uid = slice_place(path)
            found.append((place, path))
            series[uid] = series.get(uid, 0) + 1
        except ImageError as error:
            skipped.append(str(error))
    if not found:
        raise ImageError("no CT slice found" + (f"; the first problem: {skipped[0]}" if skipped else ""))
    if len(series) > 1:
        counts = ", ".join(map(str, sorted(series.values(), reverse=True)))
        raise ImageError(f"these files belong to {len(series)} series (of {counts} slices); give the files of one")
    found.sort(key=lambda item: (item[0], item[1].name))
    picks = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int))
    slices = [window_ct(read_units(found[index][1])) for index in picks]
    return Series(slices, len(found), tuple(skipped))


def slice_place(path: Path) -> tuple[float, str]:
    """Where a CT slice lies along the stack's normal, and which series it belongs to.

    Raises:
        ImageError: not a CT slice.
    """
    from pydicom import dcmread

    try:
        head = dcmread(path, stop_before_pixels=True)
        if head.get("Modality") != "CT":
            raise ImageError(f"{path}: the modality is {head.get('Modality') or 'not stated'}, not CT")
        position, orientation = head.get("ImagePositionPatient"), head.get("ImageOrientationPatient")
        if position and orientation and len(position) == 3 and len(orientation) == 6:
            row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
            place = float(np.dot(np.cross(row, column), np.array(position, float)))
        else:
            place = float(head.get("SliceLocation") or head.get("InstanceNumber") or 0)
        return place, str(head.get("SeriesInstanceUID", ""))
    except ImageError:
        raise
    except Exception as error:  # a damaged header ends in any of a dozen exception types
        raise ImageError(f"{path}: not a DICOM file that can be read ({type(error).__name__})") from error
