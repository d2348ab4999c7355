"""Real images to calibrate and measure with: the user's folder, or the DICOM files that pydicom carries."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundles.facts import Calibration
from ...runtime.errors import ImageError, LabelError, RecipeError
from ...runtime.pictures.images import UNREAD, Refused, find_images, labelled_folder, read_image, unread
from ...runtime.pictures.preprocess import SIGLIP, Normalisation, Pixels, preprocess
from ...runtime.progress import Warn

# What is chosen on fewer images is chosen for them alone: on held-back chest films, a number of patches that 22 other pictures
# allowed took the least centred cosine to 0.48.
LEAST_TO_CHOOSE = 100
MOST_TO_CHOOSE = 256  # more cost time and say no more
BATCH = 8
BUILTIN = "pydicom's own files"
LEAST_TO_HOLD_BACK = 32  # of fewer calibration images none can be spared for the gates
FINGERPRINT, MOST_FINGERPRINTS = 8, 1 << 17
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
        files: where each image was read, for the user's own file of rows; reports and manifests name no file.
    """

    images: list[Pixels]
    truth: NDArray[np.intp] | None
    labels: tuple[str, ...]
    skipped: tuple[Refused, ...]
    source: str
    files: tuple[Path, ...] = ()

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
        return self.in_batches(profile, side, MOST_TO_CHOOSE, normalise)

    def in_batches(
        self, profile: str, side: int, count: int, normalise: Normalisation = SIGLIP
    ) -> list[NDArray[np.float32]]:
        """At most `count` inputs, (up to `BATCH`, 3, side, side) each."""
        single = self.inputs(profile, side, count, normalise)
        return [np.concatenate(single[start : start + BATCH]) for start in range(0, len(single), BATCH)]

    def inputs(
        self, profile: str, side: int, count: int | None = None, normalise: Normalisation = SIGLIP
    ) -> list[NDArray[np.float32]]:
        """Model inputs one by one, (1, 3, side, side); at most `count`, spread evenly over the images."""
        picks = range(len(self.images)) if count is None else spread(len(self.images), count)
        return [preprocess(self.images[index], profile, side, normalise)[None] for index in picks]

    def halves(self) -> tuple[Samples, Samples]:
        """Every second image, and the others: to choose on the ones and to judge on the others. Copies of a picture are one."""
        unique = list({_identity(image): index for index, image in enumerate(self.images)}.values())
        return self.only(unique[::2]), self.only(unique[1::2])

    def without(self, others: Samples) -> Samples:
        """The images that are not among others, by what they show, not by their names; their labels are dropped."""
        known = set(map(_identity, others.images))
        kept = [index for index, image in enumerate(self.images) if _identity(image) not in known]
        return self if len(kept) == len(self) else self.only(kept)

    def only(self, indices: Iterable[int]) -> Samples:
        """These of the images, without their labels."""
        picks = list(indices)
        files = tuple(self.files[index] for index in picks) if self.files else ()
        return replace(self, images=[self.images[index] for index in picks], truth=None, files=files)

    def named(self, index: int) -> dict[str, str]:
        """The file and the label of an image, for the user's own file of rows."""
        truth = "" if self.truth is None else self.labels[self.truth[index]]
        return {"image": os.path.abspath(self.files[index]) if self.files else str(index + 1), "label": truth}

    def fingerprints(self) -> str | None:
        """Of what the images show, for the manifest: eight hexadecimal digits each, sorted; None of more than it may hold.

        So few that they name nobody's image, and enough to see whether one of some hundreds of others is among them.
        """
        return _joined({_fingerprint(image) for image in self.images})

    def and_unread(self, paths: Sequence[Path]) -> Samples:
        """The same, with the files in folders that are images by their endings, but none that medge reads, among the skipped."""
        left = (Refused(str(path), f"{path}: {UNREAD}") for path in unread(paths))
        return replace(self, skipped=(*self.skipped, *left))

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


def _fingerprint(image: Pixels) -> str:
    return _identity(image).hex()[:FINGERPRINT]


def _joined(fingerprints: Collection[str]) -> str | None:
    return "".join(sorted(fingerprints)) if len(fingerprints) <= MOST_FINGERPRINTS else None


def _parted(text: str) -> set[str]:
    return {text[start : start + FINGERPRINT] for start in range(0, len(text), FINGERPRINT)}


def and_fingerprints(calibration: Calibration, paths: Iterable[Path]) -> Calibration:
    """What a bundle was calibrated on, with the images that it was trained on, too; those that can't be read are left out."""
    if calibration.fingerprints is None:
        return calibration
    found = _parted(calibration.fingerprints)
    for path in paths:
        with contextlib.suppress(ImageError):
            found.add(_fingerprint(read_image(path)))
    return replace(calibration, fingerprints=_joined(found))


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
        return _read(paths, [labels.index(name) for name in names], labels, folder.name).and_unread([folder])
    return read_images([folder], folder.name)


def read_images(paths: Sequence[Path], source: str) -> Samples:
    """Read images and folders of them, without labels; `source` is what to call them.

    Raises:
        ImageError: no image could be read.
    """
    return _read(find_images(list(paths)), None, (), source).and_unread(paths)


def calibrated_on(samples: Samples, calibration: Calibration | None) -> bool:
    """Whether one of the images is among those that a bundle was calibrated on, by what they show.

    Args:
        samples: what is measured on.
        calibration: of the manifest's `source`. Of a bundle without fingerprints, the folder's name and the number of images
            decide; half of what was given may have been held back.
    """
    if calibration is None:
        return False
    if calibration.fingerprints is not None:
        known = _parted(calibration.fingerprints)
        return any(_fingerprint(image) in known for image in samples.images)
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
    unique = {_identity(image): index for index, image in enumerate(samples.images) if min(image.shape[:2]) >= 32}
    return replace(samples.only(unique.values()), skipped=())


def _read(paths: Iterable[Path], truth: list[int] | None, labels: tuple[str, ...], source: str) -> Samples:
    images: list[Pixels] = []
    kept: list[int] = []
    files: list[Path] = []
    skipped: list[Refused] = []
    for index, path in enumerate(paths):
        try:
            images.append(read_image(path))
            kept.append(index)
            files.append(path)
        except ImageError as error:
            skipped.append(Refused(str(path), str(error)))
    if not images:
        raise ImageError(f"{source}: no image could be read" + (f"; the first: {skipped[0].error}" if skipped else ""))
    chosen = None if truth is None else np.array([truth[index] for index in kept], np.intp)
    return Samples(images, chosen, labels, tuple(skipped), source, tuple(files))
