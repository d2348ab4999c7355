"""What the user points at, looked at before torch is imported: wrong paths are told in a second, not in ten."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from ...runtime.bundles.bundle import Bundle
from ...runtime.errors import CorpusError, ImageError
from ...runtime.pictures.images import is_image, labelled_folder
from .choices import read_choices
from .corpus import TEXT_SUFFIXES, iterate_texts
from .samples import check_labels


def check_files(paths: Iterable[Path]) -> None:
    """Check that files or folders exist.

    Raises:
        CorpusError: one does not.
    """
    for path in paths:
        if not path.exists():
            raise CorpusError(f"{path}: No such file or folder")


def check_images(paths: Iterable[Path]) -> None:
    """Check that images or folders exist, and that each folder holds an image; nothing is decoded.

    Raises:
        ImageError: one does not.
    """
    for path in paths:
        if not path.exists():
            raise ImageError(f"{path}: No such file or folder")
        if path.is_dir() and not any(is_image(found) for found in path.rglob("*")):
            raise ImageError(f"{path}: no image (PNG, JPEG, TIFF, DICOM) in there")


def check_labelled(folder: Path | None, labels: Collection[str]) -> None:
    """Check that each sub-folder of labelled images is a label; where there are no labels, the sub-folders are.

    Raises:
        ImageError: there is no folder, or no sub-folder of it holds an image.
        LabelError: one is no label.
    """
    if folder is None:
        raise ImageError("--labelled says that --images has one sub-folder per label: say which folder with --images")
    found = sorted(set(labelled_folder(folder)[1]))
    check_labels(found, labels or found, folder.name)


def check_corpus(paths: Sequence[Path]) -> None:
    """Check files and folders to calibrate on: that they exist, and that their texts can be read.

    Raises:
        CorpusError: one does not exist, or a line of it is of another form.
    """
    check_files(paths)
    for path in paths:
        texts = [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]
        for _ in iterate_texts([found for found in texts if found.suffix.lower() in TEXT_SUFFIXES]):
            pass


def check_held_back(made_with: Sequence[Path], judged: Sequence[Path], option: str = "--calibration") -> None:
    """Check that no file serves both to make a model with and to judge it by.

    Args:
        made_with: files and folders that it is calibrated or trained on, which `option` names.
        judged: files that it is judged by.

    Raises:
        CorpusError: one does; what is chosen on a text says nothing of others when it is judged on the same.
    """
    served = [path.resolve() for path in made_with]
    for path in judged:
        if any(path.resolve().is_relative_to(one) for one in served):
            raise CorpusError(
                f"{path}: stands in {option}, but what a model is made with can't judge it: give others to judge by, "
                "or leave it out there"
            )


def check_material(texts: Sequence[Path], images: Path | None, tasks: Sequence[Path]) -> None:
    """Check what a language model is measured on.

    Raises:
        CorpusError: a file does not exist, or a line of it is of another form.
        ImageError: there are no images.
    """
    check_corpus(texts)
    check_images([images] if images else ())
    for path in tasks:
        read_choices(path)


def not_made_from(bundle: Bundle, reference: Path) -> str:
    """What is said of a checkpoint that a bundle was not made from."""
    made_from = bundle.manifest.source.name
    return f"{reference} is not what {bundle.folder.name} was made from ({made_from}): hashes differ"
