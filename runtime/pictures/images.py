"""Read an image of any kind that a clinic has: PNG, JPEG, TIFF, DICOM; a path, bytes, a binary file, a PIL image or an array.

The result is always (H, W, 3), uint8 or uint16. Sizes are read from the header and checked before anything is decoded. Files of
Pillow's formats are decoded in a process of their own (`decoding`).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError
from .decoding.pillow import raster
from .decoding.protocol import PILLOW, Refusal
from .decoding.worker import WORKERS
from .endings import DICOM, READ, is_unread
from .limits import MAX_BYTES
from .preprocess import Pixels, spread_grey
from .view import DEFAULT_VIEW, View

ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.generic]


@dataclass(frozen=True)
class Refused:
    """An image that was left out.

    Attributes:
        image: its path.
        error: why, in a sentence that names it.
    """

    image: str
    error: str

    def __str__(self) -> str:
        return f"skipped: {self.error}"


def describe(source: ImageSource) -> str:
    """A short name for messages; never anything read from inside the image."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, Image.Image):
        return f"a PIL image of {source.size}"
    if isinstance(source, np.ndarray):
        return f"an array of {source.shape}"
    if isinstance(source, bytes):
        return f"an image of {len(source)} bytes"
    return "an open file" if hasattr(source, "read") else f"a value of type {type(source).__name__}"


def as_sources(images: ImageSource | Sequence[ImageSource]) -> Sequence[ImageSource]:
    """One image or several, as a sequence."""
    return images if isinstance(images, list | tuple) else [images]  # type: ignore[list-item]  # mypy narrows no union of protocols


def image(source: ImageSource, *, frame: int | None = None, window: str | tuple[float, float] | None = None) -> Pixels:
    """Read an image, to be passed to `medge.user`, `ask`, `classify` and the rest.

    Args:
        source: a path, bytes, a binary file, a PIL image, or an array of (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8
            or uint16.
        frame: of a multi-frame file, from 0; the middle one where None.
        window: of a grey DICOM: a name ("lung"), "centre,width", or (centre, width) in its rescaled units; the file's own
            where None.

    Returns:
        (H, W, 3) uint8, or uint16 where the file has 16 bits a channel and no window of its own.

    Raises:
        ImageError: with one sentence that names the image and the reason.

    Examples:
        >>> medge.image("film.dcm", window="lung").shape
        (128, 128, 3)
        >>> medge.image(np.zeros((40, 30), np.uint8)).dtype
        dtype('uint8')
    """
    view = View(frame, window) if isinstance(window, tuple) else View.of(frame, window)
    return read_image(source, view)


def read_image(source: ImageSource, view: View = DEFAULT_VIEW) -> Pixels:
    """Decode one image.

    Args:
        source: a path, bytes, a binary file, a PIL image, or an array of (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8
            or uint16.
        view: which frame and which window of a file.

    Returns:
        (H, W, 3) uint8, or uint16 where the file has 16 bits a channel and no window of its own.

    Raises:
        ImageError: with one sentence that names the image and the reason.
    """
    if isinstance(source, Image.Image):
        return _from_pil(source, describe(source))
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, str | os.PathLike):
        path = Path(os.fspath(source))
        try:
            if path.exists() and not path.is_file():
                raise ImageError(f"{path}: not a file")
            with path.open("rb") as stream:
                return _from_stream(stream, str(path), path.suffix.lower(), view)
        except (OSError, ValueError) as error:
            raise ImageError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    name = describe(source)
    try:
        content = io.BytesIO(source if isinstance(source, bytes) else source.read())
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ImageError(
            f"{name}: can't be read ({error}); pass a path, bytes, a binary file, a PIL image or an array"
        ) from error
    return _from_stream(content, name, "", view)


def _from_stream(stream: BinaryIO, name: str, suffix: str, view: View) -> Pixels:
    head = stream.read(132)
    if not head:
        raise ImageError(f"{name}: the file is empty")
    stream.seek(0)
    if head[128:132] == b"DICM" or suffix in DICOM:
        from .dicom import read_dicom

        return read_dicom(stream, name, view)
    content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ImageError(f"{name}: refused before decoding, more than {MAX_BYTES // 1_000_000} million bytes")
    try:
        pixels, _ = WORKERS.decode(PILLOW, "file", content, {"frame": view.frame, "pixels": 0}, as_rgb=True)
    except Refusal as refusal:
        raise ImageError(f"{name}: {refusal}") from refusal
    return pixels


def _from_pil(image: Image.Image, name: str) -> Pixels:
    """An image that the caller has opened: it is decoded, where it is not yet, in this process."""
    try:
        found = raster(image)
        content = b"".join(found.pieces)
    except Refusal as refusal:
        raise ImageError(f"{name}: {refusal}") from refusal
    kind: type[np.uint8 | np.uint16] = np.uint8 if found.itemsize == 1 else np.uint16
    return _from_array(np.frombuffer(content, kind).reshape(found.rows, found.columns, found.samples))


def _from_array(array: NDArray[np.generic]) -> Pixels:
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{describe(array)} of {array.dtype}: pass uint8 or uint16")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ImageError(f"{describe(array)}: pass (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if array.shape[2] >= 3:
        return np.ascontiguousarray(array[:, :, :3])
    pixels: Pixels = np.empty((*array.shape[:2], 3), array.dtype)
    spread_grey(array[:, :, 0], pixels)
    return pixels


def find_images(paths: list[Path]) -> Iterator[Path]:
    """Files as they are given, folders walked in sorted order for the suffixes that medge reads.

    Files without a suffix are taken too when they carry DICOM's mark, as PACS exports have no suffix.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for found in sorted(path.rglob("*")):
            if is_image(found):
                yield found


UNREAD = "left out, since of a folder's files PNG, JPEG, TIFF, BMP, WebP and DICOM are read, unpacked"


def unread(paths: Sequence[Path]) -> list[Path]:
    """Files in these folders that are images by their endings, and that `find_images` passes over; sorted."""
    folders = [path for path in paths if path.is_dir()]
    return [found for path in folders for found in sorted(path.rglob("*")) if is_unread(found) and found.is_file()]


def is_image(path: Path) -> bool:
    """Whether a file is taken for an image when its folder is walked: by its suffix or, without one, by DICOM's mark."""
    return path.is_file() and (path.suffix.lower() in READ or (not path.suffix and _has_dicom_mark(path)))


def _has_dicom_mark(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def labelled_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """Images in one sub-folder per label: their paths and labels, in sorted order.

    Raises:
        ImageError: no sub-folder holds an image.
    """
    paths: list[Path] = []
    labels: list[str] = []
    for sub in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []:
        found = list(find_images([sub]))
        paths += found
        labels += [sub.name] * len(found)
    if not paths:
        raise ImageError(f"{folder}: expected one sub-folder per label with images in it")
    return paths, labels
