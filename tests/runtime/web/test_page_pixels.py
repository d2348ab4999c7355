"""Pictures become the same pixels on the page as in Python."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medge.runtime.golden.phantom import SHAPES, phantom, phantom_16
from medge.runtime.pictures.images import read_image
from medge.runtime.pictures.preprocess import PROFILES, Normalisation, preprocess, to_8_bit

RESIZE = """async ([data, width, height, profile, side, mean, std]) => {
  const { resize, normalisePixels } = await import('./app/pixels.js');
  const image = { width, height, data: Uint8Array.from(atob(data), (c) => c.charCodeAt(0)) };
  return Array.from(normalisePixels(resize(image, profile, side), { mean, std }));
}"""


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("size", SHAPES)
def test_pixels_equal_python_to_the_bit(page: Any, profile: str, size: tuple[int, int]) -> None:
    image = phantom(*size)
    data = base64.b64encode(image.tobytes()).decode()
    normalise = Normalisation((0.5, 0.25, 0.125), (0.5, 0.75, 2.0))
    asked = [data, size[1], size[0], profile, 112, list(normalise.mean), list(normalise.std)]
    found = np.array(page.evaluate(RESIZE, asked), np.float32)
    np.testing.assert_array_equal(found.reshape(3, 112, 112), preprocess(image, profile, 112, normalise))


DECODE = """async ([data]) => {
  const { decodeImage } = await import('./app/decode.js');
  const image = await decodeImage(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)));
  return { ...image, data: Array.from(image.data) };
}"""


def test_16_bit_pictures_are_what_the_browser_makes_of_them_within_a_grey_level(page: Any, tmp_path: Path) -> None:
    """A page gets eight bits of every picture from the browser; Python reads all sixteen."""
    deep = phantom_16(65, 40)[..., 0]
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png").dtype == np.uint16
    found = page.evaluate(DECODE, [base64.b64encode((tmp_path / "deep.png").read_bytes()).decode()])
    image = np.array(found["data"], np.uint8).reshape(65, 40, 3)
    expected = to_8_bit(read_image(tmp_path / "deep.png"))
    assert int(np.abs(image.astype(int) - expected.astype(int)).max()) <= 1


def test_a_profile_that_the_page_does_not_know_is_refused(page: Any) -> None:
    asked = (
        "([profile]) => import('./app/pixels.js').then(({ resize }) => resize({}, profile, 112)).catch(e => e.message)"
    )
    assert page.evaluate(asked, ["hasty"]) == "This page does not know the preprocessing profile “hasty”."
