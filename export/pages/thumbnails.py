"""Small copies of single images for a page; only where the user asked for them, because a report may leave the house."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image

from ...runtime.bundles.figures import EncoderPlots
from ...runtime.pictures.preprocess import Pixels, to_8_bit

SIDE = 128  # pixels of the longer side


def thumbnails(plots: EncoderPlots, images: Sequence[Pixels]) -> dict[int, str]:
    """{number: JPEG as a data address} of the images that a report names."""
    return {row.number: _jpeg(images[row.number - 1]) for row in (*plots.worst, *plots.flipped)}


def _jpeg(image: Pixels) -> str:
    small = Image.fromarray(to_8_bit(image))
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
