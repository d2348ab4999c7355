"""Images to choose on that are of other kinds than those that the bundle is for."""

from __future__ import annotations

import numpy as np
import pytest

from medge.export.source.coverage import check_covered, unlike
from medge.export.source.samples import Samples
from medge.runtime.encoder.labels import unit_length
from medge.runtime.errors import RecipeError

CALIBRATION, FILMS = (Samples([], None, (), (), name) for name in ("calibration", "films"))


def kind(number: int, count: int, seed: int = 0) -> np.ndarray:
    """Embeddings of one kind: a direction of its own, and what differs from image to image."""
    rng = np.random.default_rng([number, seed])
    own = np.eye(8, 64)[number] * 8
    return unit_length((own + rng.normal(size=(count, 64))).astype(np.float32))


def test_kinds_are_told_apart() -> None:
    chosen = np.concatenate([kind(0, 100), kind(1, 100)])
    assert unlike(chosen, kind(0, 60, seed=1)).mean() < 0.1
    assert unlike(chosen, kind(2, 60)).all()
    check_covered(chosen, kind(1, 60, seed=1), CALIBRATION, FILMS, "how much")
    with pytest.raises(
        RecipeError, match="how much is chosen on calibration, but 60 of 60 images of films are unlike all"
    ):
        check_covered(chosen, kind(2, 60), CALIBRATION, FILMS, "how much")
    half = np.concatenate([kind(0, 30, seed=1), kind(2, 30)])
    with pytest.raises(RecipeError, match="of 60 images of films"):
        check_covered(chosen, half, CALIBRATION, FILMS, "how much")


def test_slices_of_one_series_do_not_make_all_others_unlike() -> None:
    base = kind(0, 30)
    series = unit_length(np.concatenate([base + np.float32(1e-3) * kind(7, 30, seed) for seed in range(5)]))
    assert unlike(series, kind(0, 60, seed=1)).mean() < 0.2


def test_few_images_are_not_refused_by_chance() -> None:
    chosen = kind(0, 100)
    odd = np.concatenate([kind(0, 4, seed=1), kind(3, 1)])
    check_covered(chosen, odd, CALIBRATION, FILMS, "how much")
    with pytest.raises(RecipeError, match="3 of 3 images"):
        check_covered(chosen, kind(3, 3), CALIBRATION, FILMS, "how much")
