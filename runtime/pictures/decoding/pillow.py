"""What Pillow decodes: ordinary image files, and of DICOM's frames JPEG with loss and RLE."""

from __future__ import annotations

import io
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from ..limits import FORMATS, size_problem
from .protocol import Raster, Refusal, words_of

STRIP = 1 << 20  # bytes of pixels that are converted at a time
DEEP_GREY = {"I;16", "I;16B", "I;16L", "I"}


def prepare() -> None:
    """Import what Pillow would import at an image, when no file can be opened any more."""
    from PIL import (  # noqa: F401
        BmpImagePlugin,
        ImageCms,
        JpegImagePlugin,
        MpoImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    Image.preinit()


def decode_file(payload: bytes, options: dict[str, Any], sized: Callable[[int], None]) -> Raster:
    """An image file. `sized` is called with the number of pixels that the header promises, before any is decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(payload), formats=FORMATS)
            if image.format == "PNG":  # whose checksums are not looked at when it is decoded
                image.verify()
                image = Image.open(io.BytesIO(payload), formats=FORMATS)
        except UnidentifiedImageError:
            raise Refusal("not an image in a format that medge reads (PNG, JPEG, TIFF, BMP, WebP, DICOM)") from None
        except Exception as error:
            raise _damaged(error) from error
        if problem := size_problem(image.height, image.width):
            raise Refusal(problem)
        sized(image.width * image.height)
        return raster(image, options["frame"])


def raster(image: Image.Image, frame: int | None = None) -> Raster:
    """One frame of an opened image as 8-bit grey, 8-bit RGB or 16-bit grey.

    Raises:
        Refusal: too large, no such frame, damaged, or without a range.
    """
    if problem := size_problem(image.height, image.width):
        raise Refusal(problem)
    try:
        frames = getattr(image, "n_frames", 1)
        chosen = frames // 2 if frame is None else frame
        if not 0 <= chosen < frames:
            raise Refusal(f"has {frames} frame(s), so there is no frame {chosen}")
        if frames > 1:
            image.seek(chosen)
            if problem := size_problem(image.height, image.width):
                raise Refusal(problem)
        image.load()
        upright = ImageOps.exif_transpose(image)
        return _deep_grey(upright) if upright.mode in DEEP_GREY else _eight_bits(upright)
    except (Refusal, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise a dozen types for damaged files
        raise _damaged(error) from error


def _damaged(error: Exception) -> Refusal:
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, Image.DecompressionBombError):
        return Refusal("refused before decoding, too many pixels")
    return Refusal(f"damaged or truncated ({words_of(error)})")


def _deep_grey(image: Image.Image) -> Raster:
    if image.mode == "I;16" and sys.byteorder == "little":
        return _in_strips(image, "I;16", 1, 2)
    wide = image.convert("I")
    low, high = wide.getextrema()
    if low < 0 or high > 65535:  # type: ignore[operator]  # one band
        raise Refusal("32-bit grey values outside 0..65535; convert it to 16 or 8 bits")
    return _in_strips(wide, "I;16" if sys.byteorder == "little" else "I;16B", 1, 2)


def _eight_bits(image: Image.Image) -> Raster:
    if image.mode == "F":
        raise Refusal("floating-point pixels without a stated range; convert it to 16 or 8 bits")
    grey = image.mode in {"L", "1"}
    return _in_strips(image, "L" if grey else "RGB", 1 if grey else 3, 1)


def _in_strips(image: Image.Image, mode: str, samples: int, itemsize: int) -> Raster:
    """Converted piece by piece: a second image of the whole size would double the memory."""
    line = image.width * samples * itemsize
    image.crop((0, 0, 1, 1)).convert(mode)  # what can't be converted is said before the first pixel is sent

    def strips() -> Iterator[bytes]:
        step = max(STRIP // line, 1)
        for top in range(0, image.height, step):
            strip = image.crop((0, top, image.width, min(top + step, image.height)))
            yield (strip if strip.mode == mode else strip.convert(mode)).tobytes()

    return Raster(image.height, image.width, samples, itemsize, 0, line * image.height, strips())


def decode_jpeg(payload: bytes, options: dict[str, Any]) -> Raster:
    """A frame of JPEG baseline or extended, in the colours that its codestream has: pydicom converts them."""
    image = Image.open(io.BytesIO(payload), formats=("JPEG",))
    if (image.height, image.width) != (options["rows"], options["columns"]):
        raise Refusal(f"the compressed frame has {image.width} x {image.height} pixels")
    if options["samples"] != 1 and "adobe_transform" not in image.info:
        image.draft("YCbCr", image.size)  # no conversion: the components as they are
    frame = image.tobytes()
    return Raster(image.height, image.width, len(image.getbands()), 1, 0, len(frame), [frame])


def decode_rle(payload: bytes, options: dict[str, Any]) -> Raster:
    """A frame of DICOM's RLE (PS3.5, annex G): a PackBits segment for each byte of a sample, the highest byte first.

    Never more is unpacked than the header's rows and columns have.
    """
    rows, columns, samples, itemsize = (options[name] for name in ("rows", "columns", "samples", "itemsize"))
    count, *offsets = struct.unpack("<16L", payload[:64].ljust(64, b"\0"))
    if count != samples * itemsize:
        raise Refusal(f"{count} RLE segments, where the header needs {samples * itemsize}")
    edges = [*offsets[:count], len(payload)]
    plane = rows * columns
    frame = bytearray(plane * samples * itemsize)
    for number in range(count):
        sample, byte = divmod(number, itemsize)
        place = byte if sys.byteorder == "big" else itemsize - 1 - byte
        segment = payload[edges[number] : edges[number + 1]]
        try:
            unpacked = Image.frombytes("L", (plane, 1), segment, "packbits", "L").tobytes()
        except ValueError as error:
            raise Refusal("an RLE segment is shorter than rows and columns need") from error
        start = sample * plane * itemsize + place
        frame[start : start + plane * itemsize : itemsize] = unpacked
    return Raster(rows, columns, samples, itemsize, 1, len(frame), [frame])
