"""Ordinary image files: every common kind is read, everything else refused in one sentence."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medge.runtime.errors import ImageError
from medge.runtime.pictures.images import find_images, labelled_folder, read_image
from medge.runtime.pictures.limits import MAX_PIXELS
from medge.runtime.pictures.view import View


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp"])
def test_lossless_files_give_their_pixels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture()).save(path)
    np.testing.assert_array_equal(read_image(path), picture())


def test_bytes_and_open_files_are_images_too(tmp_path: Path, pydicom_files: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture()).save(path)
    for file in (path, pydicom_files / "CT_small.dcm"):
        content = file.read_bytes()
        with file.open("rb") as stream:
            for source in (content, io.BytesIO(content), stream):
                np.testing.assert_array_equal(read_image(source), read_image(file))
    with pytest.raises(ImageError, match="an image of 9 bytes: not an image"):
        read_image(b"no image!")
    with pytest.raises(ImageError, match="an open file: the file is empty"):
        read_image(io.BytesIO())
    with pytest.raises(ImageError, match="a value of type int: can't be read"):
        read_image(42)  # type: ignore[arg-type]  # what a caller gets who doesn't check types


def test_jpeg_and_its_orientation(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.fromarray(picture()).save(path, exif=exif)
    assert read_image(path).shape == (30, 20, 3)


def test_16_bit_png_stays_16_bit(tmp_path: Path) -> None:
    values = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(values).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read[..., 1], values)


def test_frames_of_a_tiff(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 20, 30)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    assert read_image(tmp_path / "a.tiff").flat[0] == 20  # the middle one
    assert read_image(tmp_path / "a.tiff", View(2)).flat[0] == 30
    with pytest.raises(ImageError, match=r"has 3 frame\(s\), so there is no frame 3"):
        read_image(tmp_path / "a.tiff", View(3))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_pillow_mode_becomes_rgb(mode: str) -> None:
    assert read_image(Image.fromarray(picture()).convert(mode)).shape == (20, 30, 3)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 3), (5, 6, 4)])
def test_arrays(shape: tuple[int, ...]) -> None:
    assert read_image(np.zeros(shape, np.uint8)).shape == (5, 6, 3)


@pytest.mark.parametrize("array", [np.zeros((5, 6), np.float32), np.zeros(5, np.uint8), np.zeros((0, 6), np.uint8)])
def test_arrays_of_other_kinds_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="pass"):
        read_image(array)


def bomb(path: Path, width: int, height: int) -> None:
    """A PNG whose header promises width x height and whose data is a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [13_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    assert side**2 > MAX_PIXELS
    bomb(tmp_path / "bomb.png", side, side)
    with pytest.raises(ImageError, match="refused before decoding"):
        read_image(tmp_path / "bomb.png")


def test_damaged_files(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    Image.fromarray(picture()).save(good)
    cut = tmp_path / "cut.png"
    cut.write_bytes(good.read_bytes()[:200])
    with pytest.raises(ImageError, match=r"cut\.png: damaged or truncated"):
        read_image(cut)
    content = bytearray(good.read_bytes())
    content[-16] ^= 1  # the checksum of the pixels' last chunk
    cut.write_bytes(content)
    with pytest.raises(ImageError, match=r"cut\.png: damaged or truncated"):
        read_image(cut)
    cut.write_bytes(good.read_bytes()[:20])
    with pytest.raises(ImageError, match=r"cut\.png: "):
        read_image(cut)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match="the file is empty"):
        read_image(tmp_path / "empty.png")
    (tmp_path / "words.png").write_text("not an image")
    with pytest.raises(ImageError, match="not an image in a format"):
        read_image(tmp_path / "words.png")
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "absent.png")


@pytest.mark.parametrize("suffix", ["eps", "gif", "ico", "ppm", "pdf"])
def test_other_formats_are_not_opened_whatever_their_name(tmp_path: Path, suffix: str) -> None:
    """Pillow would start Ghostscript for an EPS."""
    Image.fromarray(picture()).save(tmp_path / f"a.{suffix}")
    path = (tmp_path / f"a.{suffix}").rename(tmp_path / "film.png")
    with pytest.raises(ImageError, match=r"film\.png: not an image in a format that medge reads"):
        read_image(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path, tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match=f"{path}: not a file"):
            read_image(path)
    with pytest.raises(ImageError, match="null"):
        read_image("a\0b.png")


def test_float_tiff_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(ImageError, match="floating-point pixels"):
        read_image(tmp_path / "f.tiff")


def test_folders(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a" / "IM0001").write_bytes(b"\0" * 128 + b"DICM")  # as PACS exports are named
    assert [path.name for path in find_images([tmp_path])] == ["1.png", "IM0001", "2.png"]
    assert labelled_folder(tmp_path)[1] == ["a", "a", "b"]
    with pytest.raises(ImageError, match="one sub-folder per label"):
        labelled_folder(tmp_path / "absent")


def test_a_window_has_a_name_or_two_numbers() -> None:
    assert View.of(2, "brain") == View(2, (40, 80))
    assert View.of(None, "-600,1500").window == (-600, 1500) == View.of(window="lung").window
    assert View.of() == View()
    for words, reason in (
        ("belly", "no window 'belly'"),
        ("40", "no window"),
        ("40,0", "greater than 0"),
        ("nan,1", "greater"),
    ):
        with pytest.raises(ImageError, match=reason):
            View.of(window=words)
