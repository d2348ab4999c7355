"""Read an image of any kind that a clinic has: PNG, JPEG, TIFF, DICOM; a path, bytes, a binary file, a PIL image or an array.

The result is always (H, W, 3), uint8 or uint16. Sizes are read from the header and checked before anything is decoded.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ImageError
from .limits import check_size, too_large
from .preprocess import Pixels
from .view import DEFAULT_VIEW, View

ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.generic]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom", ".bmp", ".webp", ".ima"})


def describe(source: ImageSource) -> str:
    """A short name for messages; never anything read from inside the image."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, Image.Image):
        return f"a PIL image of {source.size}"
    if isinstance(source, np.ndarray):
        return f"an array of {source.shape}"
    return f"an image of {len(source)} bytes" if isinstance(source, bytes) else "an open file"


def as_sources(images: ImageSource | Sequence[ImageSource] | None) -> Sequence[ImageSource]:
    """One image, several or none, as a sequence."""
    if images is None:
        return ()
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
            with path.open("rb") as stream:
                return _from_stream(stream, str(path), path.suffix.lower(), view)
        except OSError as error:
            raise ImageError(f"{path}: {error.strerror or error}") from error
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
    if head[128:132] == b"DICM" or suffix in {".dcm", ".dicom", ".ima"}:
        from .dicom import read_dicom

        return read_dicom(stream, name, view)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `check_size` is stricter where it matters
            with Image.open(stream) as image:
                return _from_pil(image, name, view.frame)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not an image in a format that medge reads (PNG, JPEG, TIFF, DICOM)") from error
    except Image.DecompressionBombError as error:
        raise ImageError(too_large(name)) from error


def _from_pil(image: Image.Image, name: str, frame: int | None = None) -> Pixels:
    check_size(name, image.height, image.width)
    frames = getattr(image, "n_frames", 1)
    chosen = frames // 2 if frame is None else frame
    if not 0 <= chosen < frames:
        raise ImageError(f"{name}: has {frames} frame(s), so there is no frame {chosen}")
    try:
        if frames > 1:
            image.seek(chosen)
            check_size(name, image.height, image.width)
        image.load()
        image = ImageOps.exif_transpose(image)
    except Image.DecompressionBombError as error:
        raise ImageError(too_large(name)) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ImageError(f"{name}: damaged or truncated ({error})") from error
    if image.mode in {"I;16", "I;16B", "I;16L", "I"}:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{name}: 32-bit grey values outside 0..65535; convert it to 16 or 8 bits")
        return _from_array(values.astype(np.uint16))
    if image.mode == "F":
        raise ImageError(f"{name}: floating-point pixels without a stated range; convert it to 16 or 8 bits")
    return np.asarray(image.convert("RGB"))


def _from_array(array: NDArray[np.generic]) -> Pixels:
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{describe(array)} of {array.dtype}: pass uint8 or uint16")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ImageError(f"{describe(array)}: pass (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    array = array[:, :, :3]
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


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


def is_image(path: Path) -> bool:
    """Whether a file is taken for an image when its folder is walked: by its suffix or, without one, by DICOM's mark."""
    return path.is_file() and (path.suffix.lower() in SUFFIXES or (not path.suffix and _has_dicom_mark(path)))


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
