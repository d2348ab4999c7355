"""How large a picture may be before it is decoded, and which formats are read."""

from __future__ import annotations

from ..errors import ImageError

MAX_PIXELS = 150_000_000  # a 12k x 12k slide; RGB takes 450 MB, what an 8 GB machine can spare
MAX_BYTES = 8 * MAX_PIXELS  # of a file that is read whole: 16 bits in each of four channels
# Pillow's names. It opens every other format that it knows as well, and starts Ghostscript for one of them.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")


def check_size(name: str, height: int, width: int) -> None:
    """Refuse an image whose header promises too many pixels, before any is decoded."""
    if problem := size_problem(height, width):
        raise ImageError(f"{name}: {problem}")


def size_problem(height: int, width: int) -> str:
    """Why an image of this size is not decoded; "" where it is."""
    if height <= 0 or width <= 0:
        return f"the header gives a size of {width} x {height} pixels"
    if height * width > MAX_PIXELS:
        return f"refused before decoding, more than {MAX_PIXELS // 1_000_000} million pixels ({width} x {height})"
    return ""
