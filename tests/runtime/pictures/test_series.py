"""CT series: order, windows, sampling, and what does not belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from medge.runtime.errors import ImageError
from medge.runtime.pictures.ct_series import Series, read_series, window_ct


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory, pydicom_files: Path) -> Path:
    """pydicom's CT slice, ten times along the body: slice n is n * 10 HU brighter, and file names lie about the order."""
    folder = tmp_path_factory.mktemp("series")
    for number in range(10):
        slice_ = dcmread(pydicom_files / "CT_small.dcm")
        slice_.ImagePositionPatient = [0, 0, 5.0 * number]
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.RescaleIntercept = -1024 + 10 * number
        slice_.save_as(folder / f"{(number * 7) % 10}.dcm")
    (folder / "notes.dcm").write_bytes(b"not a slice")
    return folder


def test_three_windows() -> None:
    """By hand: R [-1024, 1024], G [-135, 215], B [0, 80]."""
    values = np.array([[-2000.0, -1024, -135, 0, 40, 80, 215, 1024, 3000]])
    red, green, blue = window_ct(values)[0].T.tolist()
    assert red == [0, 0, 111, 128, 132, 137, 154, 255, 255]
    assert green == [0, 0, 0, 98, 128, 157, 255, 255, 255]
    assert blue == [0, 0, 0, 0, 128, 255, 255, 255, 255]


def test_slices_come_in_order_along_the_body(series: Path) -> None:
    found = read_series([series])
    assert (len(found.slices), found.of, found.note) == (10, 10, "")
    means = [float(image[..., 0].mean()) for image in found.slices]
    assert means == sorted(means)
    assert means[0] < means[-1]
    assert len(found.skipped) == 1
    assert "notes.dcm" in found.skipped[0].error


def test_too_many_are_sampled_evenly_and_said_so(series: Path) -> None:
    found, whole = read_series([series], most=4), read_series([series])
    assert found.note == "4 of 10 slices are shown, sampled evenly"
    for place, image in zip((0, 3, 6, 9), found.slices, strict=True):
        np.testing.assert_array_equal(image, whole.slices[place])


def test_two_series_are_not_one(series: Path, tmp_path: Path, pydicom_files: Path) -> None:
    other = dcmread(pydicom_files / "CT_small.dcm")
    other.SeriesInstanceUID = generate_uid()
    other.save_as(tmp_path / "other.dcm")
    with pytest.raises(ImageError, match="2 series"):
        read_series([series, tmp_path / "other.dcm"])


def written(folder: Path, pydicom_files: Path, places: list[float | None], **tags: object) -> Path:
    """A slice for each place, by SliceLocation alone where `tags` say so."""
    folder.mkdir()
    for number, place in enumerate(places):
        slice_ = dcmread(pydicom_files / "CT_small.dcm")
        slice_.RescaleIntercept = -1024 + 10 * number
        slice_.InstanceNumber = number + 1
        slice_.ImageOrientationPatient, slice_.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, place]
        for name, value in tags.items():
            if value is None:
                delattr(slice_, name)
            else:
                setattr(slice_, name, value(number, place) if callable(value) else value)
        slice_.save_as(folder / f"{(number * 3) % 7}-{number}.dcm")
    return folder


def brightness(found: Series) -> list[float]:
    return [float(image[..., 0].mean()) for image in found.slices]


def test_a_slice_at_zero_keeps_its_place(tmp_path: Path, pydicom_files: Path) -> None:
    """By SliceLocation: 0 is a place as any other, not an absent one."""
    tags = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SliceLocation": lambda _, place: place}
    found = read_series([written(tmp_path / "s", pydicom_files, [-10.0, -5.0, 0.0, 5.0, 10.0], **tags)])
    assert brightness(found) == sorted(brightness(found))
    assert found.note == ""


def test_what_is_odd_about_a_stack_is_told(tmp_path: Path, pydicom_files: Path) -> None:
    found = read_series([written(tmp_path / "gap", pydicom_files, [0, 5, 10, 30, 35, 35, 40])])
    assert "1 slices lie where another one lies" in found.note
    assert "1 gaps in the stack, the widest of 20 mm; slices are 5 mm apart elsewhere" in found.note
    tags = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SliceLocation": None}
    found = read_series([written(tmp_path / "numbers", pydicom_files, [0, 0, 0], **tags)])
    assert found.note.startswith("the files don't say where their slices lie")
    assert brightness(found) == sorted(brightness(found))


def test_localizers_other_planes_and_broken_slices_are_left_out_and_named(
    series: Path, tmp_path: Path, pydicom_files: Path
) -> None:
    localizer = written(tmp_path / "localizer", pydicom_files, [0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    coronal = written(tmp_path / "coronal", pydicom_files, [0], ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    broken = written(tmp_path / "broken", pydicom_files, [50.0], PixelData=b"short")
    found = read_series([series, localizer, coronal, broken])
    assert (len(found.slices), found.of) == (10, 11)
    told = "\n".join(refused.error for refused in found.skipped)
    for reason in ("a localizer, not a slice", "of another orientation", "can't be decoded"):
        assert reason in told


def test_what_is_no_ct(pydicom_files: Path) -> None:
    with pytest.raises(ImageError, match="MR, not CT"):
        read_series([pydicom_files / "MR_small.dcm"])


def test_a_series_is_asked_about(reader: Path, series: Path) -> None:
    import medge

    generator = medge.load_generator(reader, context=512)
    answer, shown = medge.ask_series(generator, [series], "What part of the body is shown?", medge.Sampling(limit=128))
    assert shown.note.endswith("sampled evenly")  # ten slices don't fit into this context
    assert answer.prompt_tokens > len(shown.slices) * generator.facts.image_tokens
    generator.close()


def test_a_long_series_gets_a_longer_context(reader: Path, series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the caller set one: as many slices as memory allows, not as many as a chat's context holds."""
    import medge

    monkeypatch.setattr("medge.runtime.generator.generator.DEFAULT_CONTEXT", 512)
    generator = medge.load_generator(reader)
    assert generator.engine.context == 512
    answer, shown = medge.ask_series(generator, [series], "What part of the body is shown?", medge.Sampling(limit=128))
    assert (len(shown.slices), shown.note) == (10, "")
    assert generator.engine.context > 512
    assert answer.prompt_tokens > 10 * generator.facts.image_tokens
    generator.close()
