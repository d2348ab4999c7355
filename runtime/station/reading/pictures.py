"""Pictures of what the station holds."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ...pictures.dicom import read_dicom
from ...pictures.images import read_image
from ...pictures.preprocess import Pixels, to_8_bit
from ...pictures.view import DEFAULT_VIEW, View
from ..station import Station
from ..store.records import Instance


def picture_of(station: Station, instance: Instance, view: View = DEFAULT_VIEW) -> Pixels:
    """A frame of an object, (H, W, 3) uint8 or uint16.

    Raises:
        ImageError: it can't be decoded, or has no such frame.
        StationError: its file is missing.
    """
    with station.read(instance) as stream:
        if instance.kind == "dicom":
            return read_dicom(stream, "the object", view)
        return read_image(stream, view)


def as_png(pixels: Pixels, side: int | None = None) -> bytes:
    """A PNG: grey where all channels are alike.

    Args:
        pixels: (H, W, 3).
        side: pixels of its longer side at most; the picture's own where None.
    """
    levels = to_8_bit(pixels)
    grey = bool((levels[..., 0] == levels[..., 1]).all() and (levels[..., 0] == levels[..., 2]).all())
    image = Image.fromarray(np.ascontiguousarray(levels[..., 0]) if grey else levels)
    if side is not None and max(image.size) > side:
        factor = side / max(image.size)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()
