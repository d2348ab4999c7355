"""Maps: what the values are, where they lie in a picture, and how they look."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image
from tolerances import FP32_ROUNDING

from medge.runtime.encoder.labels import LabelBank, unit_length
from medge.runtime.encoder.maps import PatchMap, covered, patch_map
from medge.runtime.errors import LabelError
from medge.runtime.pictures import overlay as colouring
from medge.runtime.pictures.overlay import colours, overlay
from medge.runtime.pictures.preprocess import PROFILES, Area, get_profile

CELLS, PATCH, SIDE = 8, 14, 115  # three pixels on the right and below belong to no patch


def bank(*names: str) -> LabelBank:
    rows = np.random.default_rng(len(names)).standard_normal((len(names), 6)).astype(np.float32)
    return LabelBank({name: [name] for name in names}, unit_length(rows))


def bright(shape: tuple[int, int], y: int, x: int, size: int) -> np.ndarray:
    picture = np.full((*shape, 3), 20, np.uint8)
    picture[y : y + size, x : x + size] = 250
    return picture


def by_brightness(picture: np.ndarray, profile: str) -> PatchMap:
    """The map of a model whose patches speak for a label by how bright they are in what the profile makes of a picture."""
    seen = get_profile(profile).resize(picture, SIDE)[: CELLS * PATCH, : CELLS * PATCH, 0]
    levels = seen.reshape(CELLS, PATCH, CELLS, PATCH).mean(axis=(1, 3)).ravel() / 255
    labels = bank("bright")
    rows = np.concatenate([levels, [0.0]])[:, None].astype(np.float32) * labels.embeddings
    area = covered(get_profile(profile).area(*picture.shape[:2], SIDE), CELLS * PATCH / SIDE)
    return patch_map(rows, labels.embeddings[0], labels, CELLS, area, picture)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("shape", [(300, 300), (200, 320), (330, 190), (40, 56)])
def test_the_peak_lies_on_the_bright_square(profile: str, shape: tuple[int, int]) -> None:
    """In the middle part of the picture, which every profile looks at."""
    short = min(shape)
    size = short // 3
    corners = [(shape[0] - short) // 2 + short // 8, (shape[1] - short) // 2 + short // 8]
    for down, right in itertools.product((0, short // 3), repeat=2):
        y, x = corners[0] + down, corners[1] + right
        values = by_brightness(bright(shape, y, x, size), profile).at_size()
        assert values.shape == shape
        assert values.dtype == np.float32
        peak = values == np.nanmax(values)
        middle = np.argwhere(peak).mean(axis=0)
        assert y <= middle[0] < y + size
        assert x <= middle[1] < x + size


def test_what_the_model_does_not_look_at_has_no_value() -> None:
    cropped = by_brightness(bright((100, 200), 10, 80, 30), "clip-crop").at_size()
    assert np.isnan(cropped[:, :50]).all()
    assert not np.isnan(cropped[:90, 52:145]).any()
    padded = by_brightness(bright((100, 200), 10, 80, 30), "serving-pad").at_size()
    assert not np.isnan(padded[:, :190]).any()
    assert np.isnan(padded[:, 196:]).all()  # the last three of 115 pixels are in no patch


def test_the_values_add_up_to_what_they_explain() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((17, 6)).astype(np.float32) / 17
    rows /= np.linalg.norm(rows.sum(0))
    picture, area = np.zeros((4, 4, 3), np.uint8), Area(0, 0, 4, 4)
    one, three = bank("a"), bank("a", "b", "c")
    found = patch_map(rows, rows.sum(0), one, 4, area, picture)
    assert found.grids.sum() + found.rest[0] == pytest.approx(float(found.cosine[0]), abs=FP32_ROUNDING)
    found = patch_map(rows, rows.sum(0), three, 4, area, picture)
    others = [np.delete(found.cosine, number).mean() for number in range(3)]
    np.testing.assert_allclose(found.grids.sum((1, 2)) + found.rest, found.cosine - others, atol=FP32_ROUNDING)
    assert found.best == "abc"[int(found.cosine.argmax())]
    np.testing.assert_array_equal(found.grid(), found.grid(found.best))
    with pytest.raises(LabelError, match="the map has no label 'd'; it has a, b, c"):
        found.grid("d")


def test_equal_steps_of_a_value_look_equally_far_apart_and_no_colour_is_clipped() -> None:
    table = colours().astype(np.float64)
    linear = np.where(table <= 0.04045 * 255, table / 255 / 12.92, ((table / 255 + 0.055) / 1.055) ** 2.4)
    lab = np.cbrt(linear @ np.linalg.inv(colouring._LINEAR).T) @ np.linalg.inv(colouring._CONES).T
    rounding = 0.005  # of 8 bits
    assert np.ptp(lab[:, 0]) < rounding
    far = np.hypot(lab[:, 1], lab[:, 2])
    wanted = np.abs(np.linspace(-1, 1, len(table))) * colouring.CHROMA
    assert np.abs(far - wanted).max() < rounding


def test_the_two_ends_differ_for_people_with_red_green_blindness() -> None:
    """By the simulation of Machado, Oliveira and Fernandes 2009, at full severity, in linear sRGB."""
    protan = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ends = (colours()[[0, -1]] / 255.0) ** 2.2
    for seen in (ends @ np.transpose(matrix) for matrix in (protan, deutan)):
        lab = np.cbrt(seen @ np.linalg.inv(colouring._LINEAR).T) @ np.linalg.inv(colouring._CONES).T
        assert np.linalg.norm(lab[0] - lab[1]) > 0.75 * 2 * colouring.CHROMA


def test_an_overlay_shows_for_and_against_on_the_picture() -> None:
    grid = np.zeros((2, 2), np.float32)
    grid[0, 0], grid[1, 1] = 0.02, -0.02
    picture = np.full((100, 50, 3), 90, np.uint8)
    shown = overlay(picture, grid, Area(0, 0, 100, 50)).astype(int)
    assert shown.shape[0] == colouring.SHOWN + colouring.SCALE
    half = colouring.SHOWN // 2
    upper, lower = shown[half // 2, half // 4], shown[half + half // 2, half // 2 + half // 4]
    assert upper[0] > upper[2] + 50  # orange
    assert lower[2] > lower[0] + 50  # blue
    assert (shown[half // 2, half // 2 + half // 4] == 90).all()  # of no value: the picture itself
    tall = overlay(np.zeros((4000, 1, 3), np.uint8), grid, Area(0, 0, 4000, 1))
    assert tall.shape == (colouring.SHOWN + colouring.SCALE, colouring.LEAST_WIDTH, 3)
    same = overlay(picture, np.zeros((2, 2), np.float32), Area(0, 0, 100, 50))
    assert (same[: colouring.SHOWN, : colouring.SHOWN // 2] == 90).all()


def test_an_overlay_of_a_wide_picture_in_16_bits() -> None:
    picture = np.full((30, 60, 3), 65535, np.uint16)
    labels = bank("a")
    found = patch_map(np.zeros((5, 6), np.float32), labels.embeddings[0], labels, 2, Area(0, 0, 30, 60), picture)
    assert Image.fromarray(found.overlay()).getpixel((0, 0)) == (255, 255, 255)
