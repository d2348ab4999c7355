"""A compressed frame's own header is read without a decoder, and right for every frame that pydicom carries."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from pydicom.encaps import get_frame

from medge.runtime.pictures.codestream import Header, read_header


@pytest.mark.parametrize(
    ("name", "samples", "precision"),
    [
        ("MR_small_jpeg_ls_lossless", 1, 16), ("SC_rgb_jls_lossy_line", 3, 8), ("JPEG2000", 1, 16), ("examples_jpeg2k", 3, 8),
        ("examples_ybr_color", 3, 8), ("SC_rgb_jpeg_gdcm", 3, 8), ("JPEG-lossy", 1, 12),
    ],
)  # fmt: skip
def test_headers_of_frames(pydicom_files: Path, name: str, samples: int, precision: int) -> None:
    dataset = pydicom.dcmread(pydicom_files / f"{name}.dcm")
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=frames)
    expected = Header(dataset.Rows, dataset.Columns, samples, precision)
    assert read_header(frame) == expected
    if frame.startswith(b"\xff\xd8"):
        assert read_header(frame[:2] + b"\xff\xff" + frame[2:]) == expected  # fill bytes before a marker
    for length in range(2, 64):
        try:
            found = read_header(frame[:length])
        except ValueError:
            continue
        assert found in (None, expected)


def test_a_codestream_in_a_jp2_file() -> None:
    stream = io.BytesIO()
    Image.new("L", (30, 20)).save(stream, "JPEG2000")
    content = stream.getvalue()
    assert content[4:8] == b"jP  "
    assert read_header(content) == Header(20, 30, 1, 8)
    with pytest.raises(ValueError, match="holds no codestream"):
        read_header(content[:12] + struct.pack(">I4s", 8, b"free"))


def test_what_is_no_codestream() -> None:
    assert read_header(b"\0" * 100) is None
    assert read_header(b"") is None
    for damaged in (b"\xff\xd8\0\0\0\0", b"\xff\xd8\xff\xda\0\0", b"\xff\xd8\xff\xe0\0\x04ab"):
        with pytest.raises(ValueError, match="the compressed frame"):
            read_header(damaged)
