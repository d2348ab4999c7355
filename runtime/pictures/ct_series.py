"""A CT series as MedGemma 1.5 reads it: slices in order, each windowed three ways into one RGB picture.

Windows in HU, from the model's card: R [-1024, 1024] everything, G [-135, 215] soft tissue, B [0, 80] brain.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from .dicom import read_units
from .images import Refused, find_images

WINDOWS = ((-1024.0, 1024.0), (-135.0, 215.0), (0.0, 80.0))
MOST_SLICES = 85  # what the model was trained with
SAME = 0.01  # millimetres between slices that lie in the same place
GAP = 1.5  # times the usual distance is a gap


@dataclass(frozen=True)
class Series:
    """The slices that are shown, in order along the body.

    Attributes:
        slices: (H, W, 3) uint8 each.
        of: how many slices the series has.
        skipped: the files that are not shown: unreadable, localizers, of another orientation.
        remarks: what is odd about the stack: gaps, slices in the same place, an order that rests on numbers alone.
    """

    slices: list[NDArray[np.uint8]]
    of: int
    skipped: tuple[Refused, ...]
    remarks: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What a reader must know of what is shown; "" where it is everything, and in order."""
        shown = len(self.slices)
        sampled = () if shown == self.of else (f"{shown} of {self.of} slices are shown, sampled evenly",)
        return "; ".join((*sampled, *self.remarks))


@dataclass(frozen=True)
class Place:
    """Where a slice lies.

    Attributes:
        path: its file.
        at: millimetres along the stack's normal; or what stands in for it.
        by: what `at` is: "position", "location" or "number".
        normal: of the slice's plane, rounded; None where the file doesn't say.
        series: UID of its series.
    """

    path: Path
    at: float
    by: str
    normal: tuple[float, ...] | None
    series: str


def window_ct(hounsfield: NDArray[np.float64]) -> NDArray[np.uint8]:
    """HU values, (H, W), to the three windows as RGB, (H, W, 3): clipped, scaled to 0..255 and rounded."""
    channels = [np.clip((hounsfield - low) / (high - low), 0, 1) * 255 for low, high in WINDOWS]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def read_series(paths: Sequence[Path], most: int = MOST_SLICES) -> Series:
    """Read a CT series from its files or folders, in the order of ImagePositionPatient along the slices' normal.

    Args:
        paths: DICOM files, or folders of them.
        most: at most so many slices; more are sampled evenly, the first and the last among them.

    Returns:
        what is shown. A file that can't be decoded, a localizer and a slice of another orientation are left out and named.

    Raises:
        ImageError: no CT slice could be read, or the files belong to several series.
    """
    found: list[Place] = []
    skipped: list[Refused] = []
    for path in find_images(list(paths)):
        try:
            found.append(slice_place(path))
        except ImageError as error:
            skipped.append(Refused(str(path), str(error)))
    if not found:
        raise ImageError("no CT slice found" + (f"; the first problem: {skipped[0].error}" if skipped else ""))
    series = Counter(place.series for place in found)
    if len(series) > 1:
        counts = ", ".join(map(str, sorted(series.values(), reverse=True)))
        raise ImageError(f"these files belong to {len(series)} series (of {counts} slices); give the files of one")
    stack, others = _one_orientation(found)
    skipped += others
    stack, remarks = _in_order(stack)
    slices: list[NDArray[np.uint8]] = []
    for index in np.unique(np.linspace(0, len(stack) - 1, min(most, len(stack))).round().astype(int)):
        try:
            slices.append(window_ct(read_units(stack[index].path)))
        except ImageError as error:
            skipped.append(Refused(str(stack[index].path), str(error)))
    if not slices:
        raise ImageError(f"no CT slice could be decoded; the first problem: {skipped[-1].error}")
    return Series(slices, len(stack), tuple(skipped), tuple(remarks))


def slice_place(path: Path) -> Place:
    """Where a CT slice lies, and which series it belongs to.

    Raises:
        ImageError: not a CT slice, or a localizer.
    """
    from pydicom import dcmread

    try:
        head = dcmread(path, stop_before_pixels=True)
        if head.get("Modality") != "CT":
            raise ImageError(f"{path}: the modality is {head.get('Modality') or 'not stated'}, not CT")
        if "LOCALIZER" in (str(word).upper() for word in head.get("ImageType") or ()):
            raise ImageError(f"{path}: a localizer, not a slice")
        position, orientation = head.get("ImagePositionPatient"), head.get("ImageOrientationPatient")
        series = str(head.get("SeriesInstanceUID", ""))
        if position and orientation and len(position) == 3 and len(orientation) == 6:
            normal = np.cross(np.array(orientation[:3], float), np.array(orientation[3:], float))
            at = _finite(np.dot(normal, np.array(position, float)))
            return Place(path, at, "position", tuple((np.round(normal, 2) + 0.0).tolist()), series)
        for name, by in (("SliceLocation", "location"), ("InstanceNumber", "number")):
            if head.get(name) is not None:  # 0 is a place, too
                return Place(path, _finite(head.get(name)), by, None, series)
        raise ImageError(f"{path}: says neither where the slice lies nor which one it is")
    except ImageError:
        raise
    except Exception as error:  # a damaged header ends in any of a dozen exception types
        raise ImageError(f"{path}: not a DICOM file that can be read ({type(error).__name__})") from error


def _finite(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError("a place that is no number")
    return number


def _one_orientation(found: list[Place]) -> tuple[list[Place], list[Refused]]:
    """The slices of the commonest orientation that say it in the commonest way, and the others."""
    [(kept, _)] = Counter((place.by, place.normal) for place in found).most_common(1)
    others = [
        Refused(
            str(place.path),
            f"{place.path}: of another orientation, or says its place in another way, than most of the series; left out",
        )
        for place in found if (place.by, place.normal) != kept
    ]  # fmt: skip
    return [place for place in found if (place.by, place.normal) == kept], others


def _in_order(found: list[Place]) -> tuple[list[Place], list[str]]:
    """Slices along the body, and what is odd about their places."""
    stack = sorted(found, key=lambda place: (place.at, place.path.name))
    remarks: list[str] = []
    steps = np.diff([place.at for place in stack])
    if stack[0].by == "number":
        remarks.append("the files don't say where their slices lie: they are in the order of their numbers")
    if same := int((steps < SAME).sum()):
        remarks.append(f"{same} slices lie where another one lies")
    apart = steps[steps >= SAME]
    usual = float(np.median(apart)) if len(apart) else 0.0
    unit = " mm" if stack[0].by != "number" else ""
    gaps = [step for step in apart if step > GAP * usual]
    if gaps:
        widest = f"{max(gaps):g}{unit}" if unit else f"{max(gaps) - 1:g} numbers"
        remarks.append(
            f"{len(gaps)} gaps in the stack, the widest of {widest}; slices are {usual:g}{unit} apart elsewhere"
        )
    return stack, remarks
