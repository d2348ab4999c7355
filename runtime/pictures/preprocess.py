"""The four preprocessing paths that MedSigLIP's publishers show, and CLIP's, in numpy and Pillow.

Each turns a decoded image into the model's (3, side, side) float32 input. They differ in how they resize,
and the difference changes the embedding, so a bundle states the one it was made and measured with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError, RecipeError
from .limits import MAX_PIXELS

Pixels = NDArray[np.uint8] | NDArray[np.uint16]  # (H, W, 3)


def spread_grey(grey: NDArray[np.generic], pixels: NDArray[np.generic]) -> None:
    """Write grey levels, (H, W), into all channels of `pixels`, (H, W, 3), of the same type."""
    for channel in range(3):  # five times as fast as numpy's broadcasting along the last axis
        pixels[:, :, channel] = grey


def to_8_bit(image: Pixels) -> NDArray[np.uint8]:
    """(H, W, 3) of 8 or 16 bits to 8 bits, rounded to nearest (65535 = 257 * 255)."""
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    return _look_up(image, ((np.arange(65536, dtype=np.uint32) + 128) // 257).astype(np.uint8))


def _look_up(image: Pixels, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each value's entry in a table, a strip at a time: an index of 8 bytes for each sample of a large film is too much."""
    found = np.empty(image.shape, np.uint8)
    step = max((1 << 18) // image.shape[1], 1)
    for top in range(0, len(image), step):
        found[top : top + step] = table[image[top : top + step]]
    return found


def resize_tf_bilinear(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """`tf.image.resize(image, (side, side))` cast to uint8: half-pixel centres, no antialiasing, truncated.

    Follows TensorFlow's ResizeBilinear kernel, all in float32: corners at floor and floor + 1 clamped to the image,
    weights taken before the clamp. Held bit for bit by tests/golden/eval_tf.npz.
    """
    height, width = image.shape[:2]
    top, bottom, dy = _corners(height, side)
    left, right, dx = _corners(width, side)
    # Interpolating along x over all rows first, then along y, is the kernel's order.
    wide = image[np.unique(np.concatenate([top, bottom]))].astype(np.float32)
    rows = {row: index for index, row in enumerate(np.unique(np.concatenate([top, bottom])).tolist())}
    a, b = wide[:, left], wide[:, right]
    mixed = a + (b - a) * dx[None, :, None]
    upper = mixed[[rows[row] for row in top.tolist()]]
    lower = mixed[[rows[row] for row in bottom.tolist()]]
    return (upper + (lower - upper) * dy[:, None, None]).astype(np.uint8)


def _corners(size: int, side: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    scale = np.float32(size) / np.float32(side)
    position = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(position)
    low = np.maximum(floor, 0).astype(np.intp)
    high = np.minimum(floor + 1, size - 1).astype(np.intp)
    return low, high, (position - floor).astype(np.float32)


def _eval_tf(image: Pixels, side: int) -> NDArray[np.uint8]:
    return resize_tf_bilinear(to_8_bit(image), side)


def _pil(image: NDArray[np.uint8], side: int, how: Image.Resampling) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((side, side), how))


def _hf_bicubic(image: Pixels, side: int) -> NDArray[np.uint8]:
    return _pil(to_8_bit(image), side, Image.Resampling.BICUBIC)


def _finetune_pil(image: Pixels, side: int) -> NDArray[np.uint8]:
    return _pil(to_8_bit(image), side, Image.Resampling.BILINEAR)


def _serving_pad(image: Pixels, side: int) -> NDArray[np.uint8]:
    """Divide by the dtype's maximum, pad with zeros to a centred square, back to 8 bits (truncated, as PIL), bicubic."""
    if image.dtype == np.uint8:
        eight = image  # divided and multiplied by 255, and rounded: the same
    else:
        levels = np.arange(65536).astype(np.float32) / np.float32(65535)
        eight = _look_up(image, np.floor(levels * np.float32(255)).astype(np.uint8))
    height, width = image.shape[:2]
    size = max(height, width)
    before = ((size - height) // 2, (size - width) // 2)
    square = np.zeros((size, size, 3), np.uint8)
    square[before[0] : before[0] + height, before[1] : before[1] + width] = eight
    return _pil(square, side, Image.Resampling.BICUBIC)


def _clip_crop(image: Pixels, side: int) -> NDArray[np.uint8]:
    """The shorter edge to `side` by PIL bicubic, then the middle square, as `CLIPImageProcessor`."""
    height, width = image.shape[:2]
    rows, columns = _enlarged(height, width, side)
    if rows * columns > MAX_PIXELS:
        raise ImageError(
            f"an image of {width} x {height} pixels is too narrow for this model: enlarged to it, it is too large"
        )
    resized = np.asarray(Image.fromarray(to_8_bit(image)).resize((columns, rows), Image.Resampling.BICUBIC))
    top, left = (rows - side) // 2, (columns - side) // 2
    return np.ascontiguousarray(resized[top : top + side, left : left + side])


def _enlarged(height: int, width: int, side: int) -> tuple[int, int]:
    """The size at which the shorter edge is `side`."""
    return int(side * height / min(height, width)), int(side * width / min(height, width))


@dataclass(frozen=True)
class Area:
    """A rectangle in a picture's pixels; what lies outside the picture is padding."""

    top: float
    left: float
    height: float
    width: float


def _whole(height: int, width: int, _side: int) -> Area:
    return Area(0, 0, height, width)


def _padded(height: int, width: int, _side: int) -> Area:
    size = max(height, width)
    return Area(-((size - height) // 2), -((size - width) // 2), size, size)


def _middle(height: int, width: int, side: int) -> Area:
    rows, columns = _enlarged(height, width, side)
    by_y, by_x = height / rows, width / columns
    return Area((rows - side) // 2 * by_y, (columns - side) // 2 * by_x, side * by_y, side * by_x)


@dataclass(frozen=True)
class Profile:
    """One preprocessing path.

    Attributes:
        name, summary: what it is called, and what it does.
        resize: (H, W, 3) of 8 or 16 bits and `side`, to (side, side, 3) of 8 bits.
        area: H, W and `side`, to what of the picture becomes that square.
    """

    name: str
    summary: str
    resize: Callable[[Pixels, int], NDArray[np.uint8]]
    area: Callable[[int, int, int], Area] = _whole


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("eval-tf", "bilinear, half-pixel centres, no antialiasing, truncated (tf.image.resize)", _eval_tf),
        Profile("hf-bicubic", "PIL bicubic (the Hugging Face processor)", _hf_bicubic),
        Profile("finetune-pil", "PIL bilinear with antialiasing", _finetune_pil),
        Profile(
            "serving-pad", "divide by the dtype's maximum, zero-pad to a square, PIL bicubic", _serving_pad, _padded
        ),
        Profile("clip-crop", "shorter edge to the size by PIL bicubic, middle square (CLIP)", _clip_crop, _middle),
    )
}
DEFAULT_PROFILE = "eval-tf"


@dataclass(frozen=True)
class Normalisation:
    """Grey levels to numbers, by colour channel: (level / 255 - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W, 3) uint8 to (3, H, W) float32."""
        channels = [table[pixels[..., channel]] for channel, table in enumerate(_tables(self))]
        return np.ascontiguousarray(np.stack(channels))


@cache
def _tables(normalisation: Normalisation) -> list[NDArray[np.float32]]:
    """The result for each of the 256 grey levels: a look-up is exact and the same in every language."""
    levels = np.arange(256) / 255
    return [
        ((levels - mean) / std).astype(np.float32)
        for mean, std in zip(normalisation.mean, normalisation.std, strict=True)
    ]


SIGLIP = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # to [-1, 1]: SigLIP's towers, Gemma 3's among them


def get_profile(name: str) -> Profile:
    if name not in PROFILES:
        raise RecipeError(f"there is no preprocessing profile {name!r}; choose from {', '.join(PROFILES)}")
    return PROFILES[name]


def preprocess(image: Pixels, profile: str, side: int, normalise: Normalisation = SIGLIP) -> NDArray[np.float32]:
    """A decoded image, (H, W, 3) of 8 or 16 bits, to the model's input, (3, side, side) float32."""
    return normalise(get_profile(profile).resize(image, side))


def normalise_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) uint8 to (3, H, W) float32 in [-1, 1], as SigLIP's towers read it."""
    return SIGLIP(pixels)
