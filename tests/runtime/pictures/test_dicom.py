"""DICOM: every file that pydicom ships is read or refused, and what is read is right."""

import io
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import psutil
import pydicom
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_windowing
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    generate_uid,
)
from tolerances import COLOUR_LEVELS, GREY_ROUNDING

from medge.runtime.errors import ImageError
from medge.runtime.pictures import dicom
from medge.runtime.pictures.decoding.worker import WORKERS
from medge.runtime.pictures.dicom import _window
from medge.runtime.pictures.images import read_image
from medge.runtime.pictures.view import View

# What pydicom ships that is no picture or can't be decoded, by the reason that must be given.
REFUSED = {
    "holds no pixel data": 22,
    "this is an RT dose grid": 7,
    "this is a segmentation": 2,
    "lossy JPEG of 12 bits": 2,
    "required attribute Rows is missing": 2,
    "can't be decoded": 3,  # the two of 12 bits again and one truncated
    "refused before decoding": 1,  # a false delimiter in its codestream's header makes it 3.7 billion pixels wide
    "not a DICOM file": 1,
}


def test_every_file_of_pydicom_is_read_or_refused_in_one_sentence(pydicom_files: Path) -> None:
    reasons: list[str] = []
    read = 0
    for path in sorted(pydicom_files.glob("*.dcm")):
        try:
            image = read_image(path)
        except ImageError as error:
            message = str(error)
            assert message.startswith(f"{path}: ")
            assert "\n" not in message
            assert len(message) - len(str(path)) < 400
            reasons.append(message)
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            read += 1
    assert read >= 49
    for reason, least in REFUSED.items():
        found = [message for message in reasons if reason in message]
        assert len(found) <= least, found  # nothing that we can read today may be refused tomorrow
    unexplained = [message for message in reasons if not any(reason in message for reason in REFUSED)]
    assert unexplained == []


def test_the_big_files_of_pydicom_data(pydicom_files: Path) -> None:
    data_store = pytest.importorskip("data_store", reason="pydicom-data is not installed")
    paths = sorted((Path(data_store.__file__).parent / "data").rglob("*.dcm"))
    outcomes = {}
    for path in paths:
        try:
            outcomes[path.name] = read_image(path).shape
        except ImageError as error:
            outcomes[path.name] = str(error)
    refused = {name for name, outcome in outcomes.items() if isinstance(outcome, str)}
    assert refused <= {"liver.dcm", "liver_expb.dcm", "emri_small_jpeg_2k_lossless_too_short.dcm"}
    assert outcomes["RG1_UNCR.dcm"] == (1955, 1841, 3)


@pytest.mark.parametrize(
    ("reference", "others"),
    [
        ("MR_small", ["MR_small_RLE", "MR_small_bigendian", "MR_small_expb", "MR_small_implicit", "MR_small_jp2klossless",
                      "MR_small_jpeg_ls_lossless", "MR_small_padded"]),
        ("SC_rgb_small_odd", ["SC_rgb_small_odd_big_endian"]),
    ],
)  # fmt: skip
def test_transfer_syntaxes_of_one_picture_agree(pydicom_files: Path, reference: str, others: list[str]) -> None:
    expected = read_image(pydicom_files / f"{reference}.dcm")
    for name in others:
        np.testing.assert_array_equal(read_image(pydicom_files / f"{name}.dcm"), expected, err_msg=name)


def test_colour_spaces_agree(pydicom_files: Path) -> None:
    """One test card as RGB, YBR_FULL, YBR_FULL_422, RLE, JPEG and 16 and 32 bits."""
    expected = read_image(pydicom_files / "SC_rgb_rle.dcm").astype(int)
    assert tuple(expected[5, 5]) == (255, 0, 0)
    decoded = sorted(pydicom_files.glob("SC_rgb_dcmtk*.dcm"))
    assert decoded
    for path in decoded:
        assert np.abs(read_image(path)[5::10, 50].astype(int) - expected[5::10, 50]).max() <= COLOUR_LEVELS, path.name
    for name in ("SC_ybr_full_422_uncompressed", "SC_rgb_rle_16bit", "SC_rgb_rle_32bit", "SC_rgb_gdcm_KY"):
        error = np.abs(read_image(pydicom_files / f"{name}.dcm")[5::10, 50].astype(int) - expected[5::10, 50])
        assert error.max() <= COLOUR_LEVELS, name


def test_a_big_endian_palette_has_the_same_colours(pydicom_files: Path) -> None:
    """pydicom itself reads this table in the wrong byte order."""
    data_store = pytest.importorskip("data_store", reason="pydicom-data is not installed")
    folder = Path(data_store.__file__).parent / "data"
    expected = read_image(next(folder.rglob("OBXXXX1A.dcm")))
    assert expected.max() > 200
    np.testing.assert_array_equal(read_image(next(folder.rglob("OBXXXX1A_expb.dcm"))), expected)


def write(path: Path, values: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **attributes: object) -> Path:
    """A minimal grey DICOM file."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = values.dtype.itemsize * 8
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(values.dtype.kind == "i")
    if values.ndim == 3:
        dataset.NumberOfFrames = len(values)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    if "PixelData" not in dataset:
        dataset.PixelData = values.tobytes()
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def ramp() -> np.ndarray:
    return np.linspace(-1000, 2000, 64 * 64).astype(np.int16).reshape(64, 64)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (-600, 1500), (50, 2)])
def test_windows_are_the_standards(tmp_path: Path, function: str, centre: float, width: float) -> None:
    path = write(tmp_path / "a.dcm", ramp(), RescaleSlope=2, RescaleIntercept=-500, WindowCenter=centre,
                 WindowWidth=width, VOILUTFunction=function)  # fmt: skip
    dataset = pydicom.dcmread(path)
    full = apply_windowing(ramp().astype(np.float64) * 2 - 500, dataset)  # pydicom's, over the range of stored values
    low, high = -32768 * 2 - 500, 32767 * 2 - 500
    expected = (full - low) / (high - low) * 255
    assert np.abs(read_image(path)[..., 0] - expected).max() <= GREY_ROUNDING


def test_a_users_window_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", ramp(), WindowCenter=0, WindowWidth=10)
    shown = read_image(path, View(window=(500, 1001)))[..., 0]
    expected = np.rint(np.clip(_window(ramp().astype(float), 500, 1001, "LINEAR"), 0, 1) * 255)
    np.testing.assert_array_equal(shown, expected)


def test_the_first_of_several_windows(tmp_path: Path) -> None:
    one = write(tmp_path / "1.dcm", ramp(), WindowCenter=40, WindowWidth=400)
    two = write(tmp_path / "2.dcm", ramp(), WindowCenter=[40, -600], WindowWidth=[400, 1500])
    np.testing.assert_array_equal(read_image(one), read_image(two))


def test_monochrome1_is_the_inverse_of_monochrome2(tmp_path: Path) -> None:
    plain = read_image(write(tmp_path / "2.dcm", ramp(), WindowCenter=40, WindowWidth=400))
    inverse = read_image(
        write(tmp_path / "1.dcm", ramp(), WindowCenter=40, WindowWidth=400, PhotometricInterpretation="MONOCHROME1")
    )
    np.testing.assert_array_equal(inverse, 255 - plain)


def test_padding_does_not_stretch_the_grey_scale(tmp_path: Path) -> None:
    values = ramp()
    values[:8] = -32000
    shown = read_image(write(tmp_path / "a.dcm", values, PixelPaddingValue=-32000))[..., 0]
    assert (shown[:8] == 0).all()
    assert shown[8:].std() > 50


def test_frames(tmp_path: Path) -> None:
    values = np.stack([np.full((8, 8), value, np.uint8) for value in (10, 20, 30, 40, 50)])
    path = write(tmp_path / "a.dcm", values)
    assert read_image(path)[0, 0, 0] == 30  # the middle one
    assert read_image(path, View(0))[0, 0, 0] == 10
    with pytest.raises(ImageError, match=r"has 5 frame\(s\), so there is no frame 5"):
        read_image(path, View(5))


def test_enhanced_multi_frame_uses_its_own_window(tmp_path: Path) -> None:
    values = np.stack([ramp(), ramp()])
    groups = []
    for centre in (0, 1000):
        voi, transform, group = Dataset(), Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, 100
        transform.RescaleSlope, transform.RescaleIntercept = 1, 0
        group.FrameVOILUTSequence, group.PixelValueTransformationSequence = [voi], [transform]
        groups.append(group)
    path = write(tmp_path / "a.dcm", values, PerFrameFunctionalGroupsSequence=groups)
    first, second = read_image(path, View(0)), read_image(path, View(1))
    assert (first == 255).mean() > (second == 255).mean() + 0.2


def test_bombs_are_refused_before_decoding(tmp_path: Path) -> None:
    tiny = np.zeros((4, 4), np.uint8)
    with pytest.raises(ImageError, match="refused before decoding"):
        read_image(write(tmp_path / "header.dcm", tiny, Rows=60000, Columns=60000))
    # A compressed frame that is far larger than the header says.
    from PIL import Image

    stream = io.BytesIO()
    Image.new("L", (14_000, 14_000)).save(stream, "JPEG", quality=1)
    path = write(tmp_path / "jpeg.dcm", tiny, JPEGBaseline8Bit, PixelData=encapsulate([stream.getvalue()]))
    with pytest.raises(ImageError, match="refused before decoding"):
        read_image(path)
    stream = io.BytesIO()
    Image.new("L", (40, 40)).save(stream, "JPEG")
    path = write(tmp_path / "size.dcm", tiny, JPEGBaseline8Bit, PixelData=encapsulate([stream.getvalue()]))
    with pytest.raises(ImageError, match="the header says 4 x 4 pixels, the compressed frame 40 x 40"):
        read_image(path)


def test_a_deflate_bomb_is_refused_before_it_is_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "MAX_PIXELS", 1_000_000)
    path = write(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), DeflatedExplicitVRLittleEndian)
    body = path.read_bytes()
    with path.open("rb") as stream:
        from pydicom.filereader import _read_file_meta_info, read_preamble

        read_preamble(stream, force=False)
        _read_file_meta_info(stream)
        head = body[: stream.tell()]
    deflater = zlib.compressobj(9, wbits=-15)
    packed = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(5)) + deflater.flush()
    path.write_bytes(head + packed)
    assert path.stat().st_size < 10_000
    with pytest.raises(ImageError, match="inflates to more than"):
        read_image(path)
    path.write_bytes(path.read_bytes()[132:])  # without the preamble, as old archives have it
    with pytest.raises(ImageError, match="inflates to more than"):
        read_image(path)


def test_a_width_that_is_wrong_is_refused_and_not_read_sheared(tmp_path: Path) -> None:
    """Columns one too few leave as many bytes over as the film has rows: here zeros, as of a film with a black edge."""
    film = np.zeros((128, 128), np.int16)
    film[8:100, 20:100] = np.linspace(0, 900, 80).astype(np.int16)
    film[20:60, 40:50] = 1500
    for columns in (127, 126, 129, 64):
        with pytest.raises(ImageError, match=rf"{columns} x 128 pixels take .*; Rows, Columns or the data are wrong"):
            read_image(write(tmp_path / "a.dcm", film, Columns=columns))
    for rows in (129, 1):
        with pytest.raises(ImageError, match="Rows, Columns or the data are wrong"):
            read_image(write(tmp_path / "a.dcm", film + 1, Rows=rows))
    with pytest.raises(ImageError, match="Rows, Columns or the data are wrong"):
        read_image(write(tmp_path / "a.dcm", film, BitsAllocated=8, BitsStored=8, HighBit=7))
    odd = np.arange(9, dtype=np.uint8).reshape(3, 3) * 20
    assert read_image(write(tmp_path / "odd.dcm", odd, PixelData=odd.tobytes() + b"\0"))[2, 2, 0] == 160


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless", "JPEG2000", "SC_rgb_jpeg_gdcm", "examples_ybr_color"])
@pytest.mark.parametrize("attribute", ["Rows", "Columns", "SamplesPerPixel"])
def test_a_compressed_frame_of_another_size_is_refused(
    pydicom_files: Path, tmp_path: Path, name: str, attribute: str
) -> None:
    dataset = pydicom.dcmread(pydicom_files / f"{name}.dcm")
    change = {3: 1, 1: 3} if attribute == "SamplesPerPixel" else {}
    value = dataset[attribute].value
    setattr(dataset, attribute, change.get(value, value - 1))
    dataset.PlanarConfiguration = 0
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(ImageError, match=r"the header says .*, the compressed frame"):
        read_image(tmp_path / "a.dcm")


@pytest.mark.parametrize("words", ["nan", "1e400", "-inf", "many"])
@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"])
def test_numbers_that_are_none_are_refused(tmp_path: Path, name: str, words: str) -> None:
    path = write(
        tmp_path / "a.dcm", ramp(), **({"WindowCenter": 40, "WindowWidth": 400, "RescaleSlope": 1} | {name: 7})
    )
    content = path.read_bytes()
    tag = pydicom.tag.Tag(name)
    at = content.index(tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + b"DS")
    size = int.from_bytes(content[at + 6 : at + 8], "little")
    words += " " * (len(words) % 2)
    new = content[: at + 6] + len(words).to_bytes(2, "little") + words.encode() + content[at + 8 + size :]
    path.write_bytes(new)
    with pytest.raises(ImageError, match=rf"a\.dcm: .*({name} is not a finite number|could not convert)"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "vr", "value"),
    [
        ("Rows", "DS", "1e5"), ("Rows", "IS", "9" * 300), ("Columns", "UT", "8\x1b[31m"), ("BitsAllocated", "DS", "nan"),
        ("NumberOfFrames", "DS", "inf"), ("NumberOfFrames", "IS", "9" * 300),
        ("SOPClassUID", "LO", "Doe^Jane\x07"), ("PhotometricInterpretation", "LO", "Doe\x1b[1m"),
        ("SamplesPerPixel", "US", 2), ("BitsAllocated", "US", 9),
    ],
)  # fmt: skip
def test_a_header_of_nonsense_is_refused_without_its_words(tmp_path: Path, name: str, vr: str, value: object) -> None:
    dataset = pydicom.dcmread(write(tmp_path / "a.dcm", np.zeros((8, 8), np.uint8)))
    element = pydicom.DataElement(name, "OB", b"")
    element.VR, element._value = vr, value
    dataset[name] = element
    if name == "SOPClassUID":
        del dataset.PixelData
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(tmp_path / "b.dcm")
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "b.dcm")
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300 + len(str(tmp_path))
    assert "Doe" not in message


def test_an_rle_frame_unpacks_to_no_more_than_its_header_says(tmp_path: Path) -> None:
    """128 times 5 MB: half a gigabyte as pydicom unpacks it."""
    segment = bytes([129, 7]) * (5 << 19)
    frame = struct.pack("<16L", 1, 64, *[0] * 14) + segment
    path = write(tmp_path / "a.dcm", np.zeros((64, 64), np.uint8), RLELossless, PixelData=encapsulate([frame]))
    assert (read_image(path) == 7).all()
    peak = max(psutil.Process(pid).memory_info().rss for pid in WORKERS.pids())
    assert peak < 200e6
    short = struct.pack("<16L", 1, 64, *[0] * 14) + bytes([129, 7]) * 3
    path = write(tmp_path / "a.dcm", np.zeros((64, 64), np.uint8), RLELossless, PixelData=encapsulate([short]))
    with pytest.raises(ImageError, match="an RLE segment is shorter than rows and columns need"):
        read_image(path)


def test_a_large_film_takes_little_more_than_its_pixels(tmp_path: Path) -> None:
    """16-bit grey to 8-bit RGB: 2 bytes of a pixel are read twice, 3 are given."""
    film = (np.arange(1500 * 1500) % 4000).astype(np.uint16).reshape(1500, 1500)
    path = write(tmp_path / "a.dcm", film)
    read_image(path)
    tracemalloc.start()
    read_image(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / film.size < 9


def test_messages_hold_nothing_of_the_patient(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), PatientName="Doe^Jane", PatientID="4711", Rows=5)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert "Doe" not in str(caught.value)
    assert "4711" not in str(caught.value)
