"""Images to choose on that are of other kinds than those that the bundle is for."""

from __future__ import annotations

import numpy as np
import pytest

from medge.export.source.coverage import MOST_LOOKED_AT, MOST_WITH_LABELS, check_covered, to_look_at, unlike
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


def films(*counts: int) -> Samples:
    """Images with labels, so many of each; an image shows its number."""
    truth = np.repeat(np.arange(len(counts)), counts)
    images = [np.full((1, 1, 3), number % 251, np.uint8) for number in range(len(truth))]
    return Samples(images, truth, ("hip", "knee", "skull", "wrist", "hand", "foot")[: len(counts)], (), "films")


def test_a_label_of_a_missing_kind_does_not_hide_among_the_others() -> None:
    chosen = np.concatenate([kind(number, 60) for number in range(5)])
    given = films(20, 20, 20, 20, 20, 8)
    judged = np.concatenate([kind(number, 20, seed=1) for number in range(5)] + [kind(5, 8)])
    with pytest.raises(RecipeError, match=r"on calibration, but 8 of 8 images of films/foot are unlike all in there"):
        check_covered(chosen, judged, CALIBRATION, given, "how much")
    check_covered(chosen, judged, CALIBRATION, given.only(range(len(given))), "how much")  # without labels it does
    both = np.concatenate([kind(number, 20, seed=1) for number in range(4)] + [kind(6, 20), kind(5, 8)])
    with pytest.raises(RecipeError, match=r"20 of 20 images of films/hand and 8 of 8 images of films/foot are unlike"):
        check_covered(chosen, both, CALIBRATION, given, "how much")


def test_labels_of_covered_kinds_are_not_refused_by_chance() -> None:
    chosen, given = np.concatenate([kind(number, 60) for number in range(6)]), films(12, 20, 20, 20, 20, 3)
    for seed in range(1, 40):
        parts = [kind(number, count, seed) for number, count in enumerate((12, 20, 20, 20, 20, 3))]
        check_covered(chosen, np.concatenate(parts), CALIBRATION, given, "how much")


def test_of_each_label_as_many_are_looked_at() -> None:
    seen = to_look_at(films(400, 3, 40))
    assert seen.truth is not None
    assert np.bincount(seen.truth).tolist() == [MOST_WITH_LABELS // 3, 3, 40]
    assert [int(image[0, 0, 0]) for image in seen.images[42:45]] == [400 % 251, 401 % 251, 402 % 251]
    assert (seen.labels, seen.source) == (("hip", "knee", "skull"), "films")
    whole = films(400, 3, 40)
    assert len(to_look_at(whole.only(range(len(whole))))) == MOST_LOOKED_AT
    unreadable = Samples(
        whole.images[:2], np.array([0, 2]), whole.labels, (), "films"
    )  # no image of the second could be read
    assert to_look_at(unreadable).truth.tolist() == [0, 2]
