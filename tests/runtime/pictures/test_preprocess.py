"""The four profiles: exact against TensorFlow, and against independent code."""

from pathlib import Path

import numpy as np
import pytest
from golden.make_eval_tf import CASES, source
from hypothesis import given, settings
from hypothesis import strategies as st

from medge.runtime.errors import RecipeError
from medge.runtime.pictures.preprocess import (
    PROFILES,
    get_profile,
    normalise_pixels,
    preprocess,
    resize_tf_bilinear,
    to_8_bit,
)

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "eval_tf.npz")


@pytest.mark.parametrize(("height", "width", "side"), CASES)
def test_eval_tf_equals_tensorflow_to_the_pixel(height: int, width: int, side: int) -> None:
    expected = GOLDEN[f"{height}x{width}to{side}"]
    ours = resize_tf_bilinear(source(height, width), side)[..., : expected.shape[-1]]
    np.testing.assert_array_equal(ours, expected)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(sorted(PROFILES)))
@settings(max_examples=60, deadline=None)
def test_every_profile_keeps_a_flat_image_flat(height: int, width: int, profile: str) -> None:
    image = np.full((height, width, 3), 93, np.uint8)
    out = get_profile(profile).resize(image, 28)
    assert out.shape == (28, 28, 3)
    assert out.dtype == np.uint8
    if profile != "serving-pad" or height == width:
        # Truncation may take one level off where a weighted sum of equal values falls short of the integer.
        assert set(np.unique(out)) <= {92, 93}


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_an_image_of_the_right_size_passes_unchanged(profile: str) -> None:
    image = source(28, 28)
    np.testing.assert_array_equal(get_profile(profile).resize(image, 28), image)


def test_serving_pad_centres_and_pads_with_zeros() -> None:
    out = get_profile("serving-pad").resize(np.full((10, 4, 3), 255, np.uint8), 10)
    assert (out[:, 3:7] > 200).all()
    assert (out[:, 0] == 0).all()
    assert (out[:, 9] == 0).all()


def test_serving_pad_divides_16_bit_by_its_own_maximum() -> None:
    image = np.full((8, 8, 3), 65535, np.uint16)
    assert (get_profile("serving-pad").resize(image, 8) == 255).all()


def test_profiles_differ() -> None:
    """Were two of them the same, stamping one into the bundle would mean nothing."""
    outs = [profile.resize(source(97, 150), 56).tobytes() for profile in PROFILES.values()]
    assert len(set(outs)) == len(PROFILES)


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_against_independent_code(export_extra: None, profile: str, dtype: type) -> None:
    from medge.export.parity.pixels import reference_pixels

    image = source(150, 97).astype(dtype) * (257 if dtype is np.uint16 else 1)
    ours = get_profile(profile).resize(image, 112).astype(int)
    error = np.abs(ours - reference_pixels(image, profile, 112))
    # One grey level where the exact value lies on an integer: eval-tf computes in float32, the reference in float64.
    assert error.max() <= 1
    assert (error > 0).mean() < 0.02  # the rare pixel


def test_normalise_is_the_processors_arithmetic() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    expected = ((pixels / 255 - 0.5) / 0.5).astype(np.float32).transpose(2, 0, 1)
    np.testing.assert_array_equal(normalise_pixels(pixels), expected)
    assert preprocess(pixels, "eval-tf", 16).shape == (3, 16, 16)


def test_16_bit_rounds_to_nearest() -> None:
    values = np.array([[[0, 128, 129], [257, 65407, 65535]]], np.uint16)
    assert to_8_bit(values).ravel().tolist() == [0, 0, 1, 1, 255, 255]


def test_unknown_profile_names_the_choices() -> None:
    with pytest.raises(RecipeError, match="eval-tf, hf-bicubic, finetune-pil, serving-pad"):
        get_profile("nearest")
