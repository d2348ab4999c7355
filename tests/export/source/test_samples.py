"""Images to calibrate and to measure on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medge.export.source.samples import Samples, builtin_samples, calibrated_on
from medge.runtime.bundles.facts import Calibration


def pictures(*greys: int) -> Samples:
    images = [np.full((4, 4, 3), grey, np.uint8) for grey in greys]
    files = tuple(Path(f"{grey}.png") for grey in greys)
    return Samples(images, np.zeros(len(greys), np.intp), ("a label",), (), "films", files)


def test_builtin_samples_are_different_pictures() -> None:
    samples = builtin_samples()
    assert len(samples) >= 15
    assert len({image.tobytes() for image in samples.images}) == len(samples)


def test_files_stay_with_their_images() -> None:
    samples = pictures(0, 1, 2, 2, 3)
    for part in (*samples.halves(), samples.without(pictures(1)), samples.only([3, 0])):
        assert [int(file.stem) for file in part.files] == [int(image.max()) for image in part.images]
        assert part.truth is None
    assert samples.named(2) == {"image": str(Path("2.png").absolute()), "label": "a label"}
    assert replace(samples, files=(), truth=None).named(2) == {"image": "3", "label": ""}


@pytest.mark.parametrize(
    ("measured", "fitted"),
    [
        (pictures(0, 1, 2), True),
        (replace(pictures(2, 1, 0), source="renamed"), True),
        (pictures(2, 8, 9), True),  # one is enough
        (pictures(7, 8, 9), False),  # the folder's name and the number of its images are the same
    ],
)
def test_images_are_known_by_what_they_show(measured: Samples, fitted: bool) -> None:
    served = pictures(0, 1, 2)
    assert calibrated_on(measured, Calibration("films", images=3, fingerprints=served.fingerprints())) is fitted


def test_of_a_bundle_without_fingerprints_names_decide() -> None:
    assert calibrated_on(pictures(7, 8, 9), Calibration("films", images=3))
    assert not calibrated_on(pictures(7, 8, 9), Calibration("others", images=3))
    assert not calibrated_on(pictures(7, 8, 9), None)


def test_fingerprints_tell_nothing_of_names_and_order() -> None:
    assert pictures(0, 1).fingerprints() == replace(pictures(1, 0, 0), files=(), source="x").fingerprints()
    assert len(pictures(0, 1).fingerprints() or "") == 16
