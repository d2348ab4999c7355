"""How large a picture may be before it is decoded."""

from __future__ import annotations

from ..errors import ImageError

MAX_PIXELS = 150_000_000  # a 12k x 12k slide; RGB takes 450 MB, what an 8 GB machine can spare


def check_size(name: str, height: int, width: int) -> None:
    """Refuse an image whose header promises too many pixels, before any is decoded."""
    if height <= 0 or width <= 0:
        raise ImageError(f"{name}: the header gives a size of {width} x {height} pixels")
    if height * width > MAX_PIXELS:
        raise ImageError(f"{too_large(name)} ({width} x {height})")


def too_large(name: str) -> str:
    return f"{name}: refused before decoding, more than {MAX_PIXELS // 1_000_000} million pixels"
