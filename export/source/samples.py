"""Real images to calibrate and measure with: the user's folder, or the DICOM files that pydicom carries."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles.facts import Calibration
from ...runtime.errors import ImageError, LabelError, RecipeError
from ...runtime.pictures.images import Refused, find_images, labelled_folder, read_image
from ...runtime.pictures.preprocess import SIGLIP, Normalisation, Pixels, preprocess
from ...runtime.progress import Warn

# What is chosen on fewer images is chosen for them alone: on held-back chest films, a number of patches that 22 other pictures
# allowed took the least centred cosine to 0.48.
LEAST_TO_CHOOSE = 100
MOST_TO_CHOOSE = 256  # more cost time and say no more
BATCH = 8
BUILTIN = "pydicom's own files"
LEAST_TO_HOLD_BACK = 32  # of fewer calibration images none can be spared for the gates
# A tower that reads a thousand tokens gives a thousand rows an image: eight images are more rows than any layer is wide.
CALIBRATION_ROWS = 8192


class Tower(Protocol):
    """What has a size: a family's facts, or the manifest's."""

    @property
    def image_size(self) -> int: ...

    @property
    def patch_size(self) -> int: ...


@dataclass(frozen=True)
class Samples:
    """Decoded images, and for a labelled folder the index of each one's label.

    Attributes:
        images: (H, W, 3) arrays.
        truth: (N,) indices into `labels`, or None.
        labels: the names of the sub-folders, sorted.
        skipped: the images that could not be read.
        source: what to call them in a report; a folder's name, never its path.
    """

    images: list[Pixels]
    truth: NDArray[np.intp] | None
    labels: tuple[str, ...]
    skipped: tuple[Refused, ...]
    source: str

    def __len__(self) -> int:
        return len(self.images)

    def for_calibration(
        self, profile: str, tower: Tower, normalise: Normalisation = SIGLIP
    ) -> list[NDArray[np.float32]]:
        """As many inputs of a tower of this size as the recipes need to see."""
        tokens = (tower.image_size // tower.patch_size) ** 2
        return self.inputs(profile, tower.image_size, max(CALIBRATION_ROWS // tokens, 8), normalise)

    def for_choosing(
        self, profile: str, side: int, normalise: Normalisation = SIGLIP, *, what: str
    ) -> list[NDArray[np.float32]]:
        """Inputs to choose on how far a recipe may go, (up to `BATCH`, 3, side, side) each.

        Args:
            what: what is chosen, for the error.

        Raises:
            RecipeError: there are too few images to choose on.
        """
        if len(self) < LEAST_TO_CHOOSE:
            raise RecipeError(
                f"{what} is chosen on your images and judged on others: give at least {2 * LEAST_TO_CHOOSE} images of the "
                f"kinds that it is for with --calibration, or {LEAST_TO_CHOOSE} there and others with --images; to choose it "
                f"from are {len(self)}. Or set it yourself with --merge"
            )
        single = self.inputs(profile, side, MOST_TO_CHOOSE, normalise)
        return [np.concatenate(single[start : start + BATCH]) for start in range(0, len(single), BATCH)]

    def inputs(
        self, profile: str, side: int, count: int | None = None, normalise: Normalisation = SIGLIP
    ) -> list[NDArray[np.float32]]:
        """Model inputs one by one, (1, 3, side, side); at most `count`, spread evenly over the images."""
        picks = range(len(self.images)) if count is None else spread(len(self.images), count)
        return [preprocess(self.images[index], profile, side, normalise)[None] for index in picks]

    def halves(self) -> tuple[Samples, Samples]:
        """Every second image, and the others: to choose on the ones and to judge on the others. Copies of a picture are one."""
        images = list({_identity(image): image for image in self.images}.values())
        return replace(self, images=images[::2], truth=None), replace(self, images=images[1::2], truth=None)

    def without(self, others: Samples) -> Samples:
        """The images that are not among others, by what they show, not by their names; their labels are dropped."""
        known = set(map(_identity, others.images))
        images = [image for image in self.images if _identity(image) not in known]
        return self if len(images) == len(self) else replace(self, images=images, truth=None)

    def told(self, warn: Warn) -> Self:
        """These samples, after telling which images could not be read."""
        for refused in self.skipped:
            warn(refused)
        return self

    def check_labels(self, names: Collection[str]) -> None:
        """Check that every sub-folder of labelled images is a label.

        Raises:
            LabelError: one is none; scores for it would be judged by words that nobody asked for.
        """
        check_labels(self.labels, names, self.source)

    def tell_unseen(self, names: Collection[str], warn: Warn) -> None:
        """Tell of which labels there is no image, where the images have labels: accuracy is then among the others."""
        if self.truth is not None and (unseen := [name for name in names if name not in self.labels]):
            warn(
                f"{self.source}: no image of the label(s) {', '.join(unseen)}; accuracy, AUC and ECE are of the others alone"
            )


def check_labels(folders: Iterable[str], names: Collection[str], source: str) -> None:
    """Check that folders of images are labels.

    Raises:
        LabelError: one is none.
    """
    if unknown := [folder for folder in folders if folder not in names]:
        raise LabelError(
            f"{source}: no label for the folder(s) {', '.join(unknown)}; the labels are {', '.join(names)}. Rename the "
            "folders, or give --labels with their names"
        )


def _identity(image: Pixels) -> bytes:
    """Of what an image shows: two files of the same picture have the same."""
    return hashlib.sha256(repr((image.shape, image.dtype.str)).encode() + image.tobytes()).digest()


def spread(total: int, count: int) -> list[int]:
    """`count` indices spread evenly over `total`."""
    return np.unique(np.linspace(0, total - 1, min(total, count)).round().astype(int)).tolist()


def read_samples(folder: Path, *, labelled: bool = False) -> Samples:
    """Read a folder; images that can't be read are skipped and named.

    Raises:
        ImageError: no image could be read.
    """
    if labelled:
        paths, names = labelled_folder(folder)
        labels = tuple(sorted(set(names)))
        return _read(paths, [labels.index(name) for name in names], labels, folder.name)
    return read_images([folder], folder.name)


def read_images(paths: Sequence[Path], source: str) -> Samples:
    """Read images and folders of them, without labels; `source` is what to call them.

    Raises:
        ImageError: no image could be read.
    """
    return _read(find_images(list(paths)), None, (), source)


def calibrated_on(samples: Samples, calibration: Calibration | None) -> bool:
    """Whether images are those that a bundle was calibrated on, as far as their names and how many they are tell.

    Args:
        samples: what is measured on.
        calibration: of the manifest's `source`; where it counts images, half of what was given may have been held back.
    """
    if calibration is None:
        return False
    if samples.source == BUILTIN:
        return BUILTIN in calibration.source
    if calibration.images is None:  # of a language model, which is measured on a few of a folder's images
        return samples.source in calibration.source.split(", ")
    return samples.source == calibration.source and calibration.images in (len(samples), (len(samples) + 1) // 2)


def builtin_samples() -> Samples:
    """The pictures among the DICOM files inside pydicom's own package: CT, MR, US, CR and more, all public.

    Many files hold the same picture in another transfer syntax; each picture is taken once.
    """
    import pydicom.data

    # By path: pydicom's own look-up tries to download the files that it does not carry.
    paths = sorted((Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm"))
    samples = _read(paths, None, (), BUILTIN)
    unique = {_identity(image): image for image in samples.images if min(image.shape[:2]) >= 32}
    return Samples(list(unique.values()), None, (), (), samples.source)


def _read(paths: Iterable[Path], truth: list[int] | None, labels: tuple[str, ...], source: str) -> Samples:
    images: list[Pixels] = []
    kept: list[int] = []
    skipped: list[Refused] = []
    for index, path in enumerate(paths):
        try:
            images.append(read_image(path))
            kept.append(index)
        except ImageError as error:
            skipped.append(Refused(str(path), str(error)))
    if not images:
        raise ImageError(f"{source}: no image could be read" + (f"; the first: {skipped[0].error}" if skipped else ""))
    chosen = None if truth is None else np.array([truth[index] for index in kept], np.intp)
    return Samples(images, chosen, labels, tuple(skipped), source)
