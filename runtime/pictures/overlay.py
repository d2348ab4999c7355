"""A coarse grid of values over a picture: at the picture's own size, and as colours with a scale.

The colours run from blue (against) through grey to orange (for) on a straight line of OKLab (Ottosson 2020, "A perceptual color
space for image processing"), at one lightness: equal steps of a value look equally far apart, and neither end looks stronger.
Blue and orange differ along the axis that people with red-green blindness see as others do.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .preprocess import Area

SHOWN = 768  # pixels of an overlay's longer side, without its scale
STEPS = 129  # colours on each side of zero, zero among them
LIGHTNESS, CHROMA, AGAINST, FOR = 0.72, 0.12, math.radians(250), math.radians(60)
STRONGEST = 0.7  # the share of the colour in a pixel where the value is greatest; the rest is the picture
SCALE, MARGIN, LEAST_WIDTH = 40, 8, 240  # pixels: the scale's height, its margins, and what its words need

# OKLab to the cube roots of cone responses, and those to linear sRGB.
_CONES = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_LINEAR = np.array([
    [4.0767416621, -3.3077115913, 0.2309699292], [-1.2684380046, 2.6097574011, -0.3413193965],
    [-0.0041960863, -0.7034186147, 1.7076147010],
])  # fmt: skip


@cache
def colours() -> NDArray[np.uint8]:
    """The table, (2 * STEPS - 1, 3) sRGB: first the strongest against, in the middle zero, last the strongest for."""
    share = np.linspace(-1, 1, 2 * STEPS - 1)
    hue = np.where(share < 0, AGAINST, FOR)
    lab = np.stack(
        [np.full_like(share, LIGHTNESS), *(CHROMA * abs(share) * turn(hue) for turn in (np.cos, np.sin))], axis=1
    )
    linear = np.clip((lab @ _CONES.T) ** 3 @ _LINEAR.T, 0, 1)
    return np.rint(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)).astype(
        np.uint8
    )


def spread(grid: NDArray[np.float32], area: Area, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A grid's values for every pixel of a picture, each cell as one block; nothing is smoothed.

    Args:
        grid: (rows, columns).
        area: where the grid lies, in the picture's pixels.
        shape: (H, W) of the picture.

    Returns:
        (H, W) float32, NaN where the grid does not reach.
    """
    rows, columns = (
        np.floor((np.arange(size) + 0.5 - start) / length * cells).astype(np.intp)
        for size, start, length, cells in zip(
            shape, (area.top, area.left), (area.height, area.width), grid.shape, strict=True
        )
    )
    found = np.full(shape, np.nan, np.float32)
    inside = [(index >= 0) & (index < cells) for index, cells in zip((rows, columns), grid.shape, strict=True)]
    found[np.ix_(*inside)] = grid[np.ix_(rows[inside[0]], columns[inside[1]])]
    return found


def overlay(picture: NDArray[np.uint8], grid: NDArray[np.float32], area: Area) -> NDArray[np.uint8]:
    """A picture in grey under the colours of a grid, with a scale below.

    Args:
        picture: (H, W, 3).
        grid: (rows, columns).
        area: where the grid lies, in the picture's pixels.

    Returns:
        (h, w, 3), the picture's longer side brought to `SHOWN` pixels. The strongest colour stands for the grid's greatest
        magnitude, which the scale names.
    """
    height, width = picture.shape[:2]
    factor = SHOWN / max(height, width)
    rows, columns = (max(1, round(size * factor)) for size in (height, width))
    grey = np.asarray(Image.fromarray(picture).convert("L").resize((columns, rows), Image.Resampling.BILINEAR))
    by_y, by_x = rows / height, columns / width
    shown = Area(area.top * by_y, area.left * by_x, area.height * by_y, area.width * by_x)
    limit = float(np.abs(grid).max()) or 1.0
    coloured = _tint(grey, spread(grid / np.float32(limit), shown, (rows, columns)))
    return _with_scale(coloured, limit)


def _tint(grey: NDArray[np.uint8], share: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey levels, (H, W), under the colours of values from -1 to 1; those that are NaN have none."""
    share = np.nan_to_num(share)
    colour = colours()[np.rint((share + 1) * (STEPS - 1)).astype(np.intp)].astype(np.float32)
    weight = STRONGEST * np.abs(share)[..., None]
    return np.rint((1 - weight) * grey[..., None] + weight * colour).astype(np.uint8)


def _with_scale(picture: NDArray[np.uint8], limit: float) -> NDArray[np.uint8]:
    """A picture with the scale of its colours below, from -limit to limit."""
    height, width = picture.shape[:2]
    wide = max(width, LEAST_WIDTH)
    bar = np.linspace(-1, 1, wide - 2 * MARGIN, dtype=np.float32)[None].repeat(SCALE // 3, 0)
    canvas = Image.new("RGB", (wide, height + SCALE))
    canvas.paste(Image.fromarray(picture), (0, 0))
    canvas.paste(Image.fromarray(_tint(np.full(bar.shape, 128, np.uint8), bar)), (MARGIN, height + MARGIN // 2))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default()
    for text, share in ((f"{-limit:.2g} against", 0.0), ("0", 0.5), (f"for {limit:+.2g}", 1.0)):
        place = MARGIN + share * (wide - 2 * MARGIN - draw.textlength(text, font=font))
        draw.text((place, height + SCALE // 3 + MARGIN), text, fill=(255, 255, 255), font=font)
    return np.asarray(canvas)
