"""Pictures of a batch, each cut, turned and changed at random so that no set is known by its size, sharpness or grey."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Cut:
    """What is cut out of a picture.

    Attributes:
        area: share of the picture's area, lowest and highest.
        turn: degrees, at most, to either side.
        upside_down: whether pictures of this kind have no up.
    """

    area: tuple[float, float]
    turn: float
    upside_down: bool = False


WHOLE, SPECIMEN = Cut((0.6, 1.1), 15), Cut((0.6, 1.1), 180, upside_down=True)
# A small part shows how a picture was made, not what is found in it: such a part has captions about its kind alone.
PART = Cut((0.06, 0.4), 15)


def usual_cut(modality: str | None) -> Cut:
    """What is cut out of a picture that was made in this way."""
    return SPECIMEN if modality == "microscopy" else WHOLE


def cut(image: NDArray[np.uint8], side: int, how: Cut, rng: random.Random) -> NDArray[np.uint8]:
    """A random part, (side, side, 3) uint8, of (H, W) or (H, W, 3).

    Half of the pictures that shrink are made small with antialiasing first, as half of the profiles do.
    """
    picture = Image.fromarray(image).convert("RGB")
    area, aspect = rng.uniform(*how.area), math.exp(rng.uniform(-0.15, 0.15))
    wide, high = math.sqrt(area * aspect), math.sqrt(area / aspect)
    shrink = min(picture.width * wide, picture.height * high) / side
    coarse = rng.random() < 0.3
    if coarse or (shrink > 1 and rng.random() < 0.5):
        target = rng.uniform(26, 90) if coarse else side
        factor = min(target / (shrink * side), 1)
        size = (max(round(picture.width * factor), 8), max(round(picture.height * factor), 8))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    slack_x, slack_y = max(1 - wide, 0.06), max(1 - high, 0.06)
    x, y = 0.5 + rng.uniform(-0.5, 0.5) * slack_x, 0.5 + rng.uniform(-0.5, 0.5) * slack_y
    angle = math.radians(rng.uniform(-how.turn, how.turn))
    flip_x = rng.choice((-1, 1))
    flip_y = rng.choice((-1, 1)) if how.upside_down else 1
    scale_x, scale_y = picture.width * wide / side, picture.height * high / side
    a, b = scale_x * flip_x * math.cos(angle), -scale_x * math.sin(angle) * flip_y
    d, e = scale_y * flip_x * math.sin(angle), scale_y * math.cos(angle) * flip_y
    c, f = x * picture.width - (a + b) * side / 2, y * picture.height - (d + e) * side / 2
    done = picture.transform((side, side), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)
    return np.asarray(done)


def false_colours(image: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    """(S, S, 3) in other colours, the same shape: colours mixed at random, dark and light each with a colour of its own."""
    mixed = image.astype(np.float32) @ np.array(
        [[rng.uniform(-0.3, 1) for _ in range(3)] for _ in range(3)], np.float32
    )
    mixed -= mixed.min((0, 1))
    mixed /= mixed.max((0, 1)) + 1e-6
    if rng.random() < 0.3:
        mixed = 1 - mixed
    dark = np.array([rng.random() * 0.6 for _ in range(3)], np.float32)
    light = np.array([1 - rng.random() * 0.6 for _ in range(3)], np.float32)
    return ((dark + (light - dark) * mixed) * 255).astype(np.uint8)


def shade(image: NDArray[np.uint8], rng: random.Random) -> NDArray[np.float32]:
    """Change brightness, contrast, colour and noise; (S, S, 3) to the model's input, (3, S, S) in [-1, 1]."""
    if rng.random() < 0.1:  # some colour pictures without their colour
        image = np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    tint = 0.2 if rng.random() < 0.25 else 0.0
    gamma, contrast, shift = math.exp(rng.uniform(-0.4, 0.4)), rng.uniform(0.7, 1.3), rng.uniform(-0.12, 0.12)
    levels = np.linspace(0, 1, 256, dtype=np.float32)
    out = np.empty((3, *image.shape[:2]), np.float32)
    for channel in range(3):
        table = np.minimum(levels * (1 + rng.uniform(-tint, tint)), 1) ** gamma
        table = (table - 0.5) * contrast + 0.5 + shift
        np.take(table.clip(0, 1) * 2 - 1, image[:, :, channel], out=out[channel])
    if rng.random() < 0.4:
        noise = np.random.default_rng(rng.getrandbits(60)).standard_normal(out.shape, np.float32)
        out += noise * np.float32(0.08 * rng.random())
        np.clip(out, -1, 1, out=out)
    return out
