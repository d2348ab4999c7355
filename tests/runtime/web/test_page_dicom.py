"""DICOM files are on the page what Python reads, or are refused with the reason."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoder_page import dicom, open_page
from numpy.typing import NDArray

from medge.runtime.pictures.images import read_image
from medge.runtime.pictures.view import CT_WINDOWS, DEFAULT_VIEW, View

DICOM = """async ([data, frame, window]) => {
  const { DicomPicture } = await import('./app/dicom/dicom.js');
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  try {
    const { image } = await new DicomPicture(bytes).show({ frame, window: window && { centre: window[0], width: window[1] } });
    // As text: Playwright takes minutes for an array of nine million numbers.
    let text = '';
    for (let at = 0; at < image.data.length; at += 32768) text += String.fromCharCode(...image.data.subarray(at, at + 32768));
    return { width: image.width, height: image.height, data: btoa(text) };
  } catch (error) {
    return { error: error.message };
  }
}"""


def changed_dicom(name: str, folder: Path) -> Path:
    """One of pydicom's files, damaged or altered as the word after its + says."""
    from pydicom import dcmread
    from pydicom.encaps import encapsulate, get_frame

    name, _, how = name.partition("+")
    source, path = dicom(name), folder / f"changed-{name}"
    if not how:
        return source
    if how == "cut":
        path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
        return path
    dataset = dcmread(source)
    if how == "row":
        dataset.Rows -= 1
    elif how == "ybr":
        dataset.PhotometricInterpretation = "YBR_FULL"
    else:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    dataset.save_as(path)
    return path


def shown(page: Any, path: Path, view: View = DEFAULT_VIEW) -> NDArray[np.uint8] | str:
    """What the page shows of a DICOM file, or the sentence that refuses it."""
    found = page.evaluate(DICOM, [base64.b64encode(path.read_bytes()).decode(), view.frame, view.window])
    if "error" in found:
        return str(found["error"])
    return np.frombuffer(base64.b64decode(found["data"]), np.uint8).reshape(found["height"], found["width"], 3)


@pytest.mark.parametrize(
    ("name", "levels"),
    [("CT_small.dcm", 0), ("MR_small.dcm", 0), ("MR_small_implicit.dcm", 0), ("SC_rgb.dcm", 0), ("RG3_UNCI.dcm", 0),
     ("examples_overlay.dcm", 0), ("SC_ybr_full_uncompressed.dcm", 0), ("SC_rgb_jpeg_dcmtk.dcm", 3),
     ("MR_small_RLE.dcm", 0), ("SC_rgb_rle.dcm", 0), ("SC_rgb_rle_16bit_2frame.dcm", 0), ("SC_rgb_rle.dcm+ybr", 0),
     ("JPEG2000.dcm", 0), ("MR_small_jp2klossless.dcm", 0), ("693_J2KI.dcm", 0), ("J2K_pixelrep_mismatch.dcm", 0),
     ("GDCMJ2K_TextGBR.dcm", 0), ("SC_rgb_gdcm_KY.dcm", 0), ("examples_jpeg2k.dcm", 0),
     ("MR_small_jpeg_ls_lossless.dcm", 0), ("JPEGLSNearLossless_08.dcm", 0), ("JPEGLSNearLossless_16.dcm", 0),
     ("SC_rgb_jls_lossy_line.dcm", 0), ("SC_rgb_jls_lossy_sample.dcm", 0)],
)  # fmt: skip
def test_dicom_as_python_reads_it(page: Any, tmp_path: Path, name: str, levels: int) -> None:
    """`levels`: grey levels by which two JPEG decoders may differ."""
    path = changed_dicom(name, tmp_path)
    image = shown(page, path)
    assert not isinstance(image, str), image
    assert int(np.abs(image.astype(int) - read_image(path).astype(int)).max()) <= levels


@pytest.mark.parametrize(
    ("name", "view"),
    [("CT_small.dcm", View(window=CT_WINDOWS["abdomen"])), ("CT_small.dcm", View(window=(-600.5, 1))),
     ("MR_small_RLE.dcm", View(window=(800, 1500.25))), ("693_J2KI.dcm", View(window=(50, 400))),
     ("SC_rgb_rle_2frame.dcm", View(frame=0)), ("SC_rgb_rle_2frame.dcm", View(frame=1))],
)  # fmt: skip
def test_windows_and_frames_are_those_of_the_command_line(page: Any, name: str, view: View) -> None:
    path = dicom(name)
    np.testing.assert_array_equal(shown(page, path, view), read_image(path, view))


@pytest.mark.parametrize(
    ("name", "words"),
    [("JPGExtended.dcm", "JPEG of 12 bits"), ("rtplan.dcm", "holds no image"), ("rtdose_rle.dcm", "is an RT dose grid"),
     ("CT_small.dcm+cut", "cut short"), ("emri_small_jpeg_2k_lossless_too_short.dcm", "cut short"),
     ("MR_small_RLE.dcm+short", "cut short: an RLE segment"),
     ("JPEG2000.dcm+row", "says 256 × 1023 pixels, and its compressed frame 256 × 1024"),
     ("MR_small_jpeg_ls_lossless.dcm+short", "frame of this DICOM file is cut off"),
     ("JPEG2000.dcm+short", "The JPEG 2000 pixels of this DICOM file are damaged")],
)  # fmt: skip
def test_dicom_that_the_page_refuses(page: Any, tmp_path: Path, name: str, words: str) -> None:
    assert words in str(shown(page, changed_dicom(name, tmp_path)))


def test_without_a_decoder_it_says_so(
    browser: Any, serve: Callable[[Path], str], web_bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(web_bundles("int8"), tmp_path / "bare", ignore=shutil.ignore_patterns("*wasm_decode*"))
    opened = open_page(browser, serve(folder))
    for name, kind in (("JPEG2000.dcm", "JPEG 2000"), ("MR_small_jpeg_ls_lossless.dcm", "JPEG-LS")):
        assert f"The decoder of {kind} is not in this bundle" in str(shown(opened, dicom(name)))
    opened.context.close()
