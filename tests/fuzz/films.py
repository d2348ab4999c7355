"""Small DICOM films of every kind of pixels in every coding, of no patient: pydicom, Pillow, pyjpegls and gdcm make them."""

from __future__ import annotations

import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "dicom"


def write_films(base: Path) -> None:
    """One small film of each kind; made by pydicom, Pillow and pyjpegls, none of a patient."""
    folder = base / FOLDER
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:16, 0:18]
    grey16 = (x * 40 + y * 60 + rng.integers(0, 9, (16, 18))).astype(np.uint16)
    grey8 = ((x * 9 + y * 7) % 256).astype(np.uint8)
    colour = np.stack([grey8, grey8[::-1], 255 - grey8], -1)
    for name, pixels, options in (
        ("grey16", grey16, {}), ("grey8", grey8, {}), ("signed", (grey16.astype(np.int16) - 900),
        {"RescaleIntercept": "-1024", "RescaleSlope": "1"}),
        ("colour", colour, {}), ("frames", np.stack([grey16, grey16[::-1], grey16 // 2]), {"NumberOfFrames": "3"}),
        ("window", grey16, {"WindowCenter": "600", "WindowWidth": "900"}), ("palette", grey8 % 16,
        {"PhotometricInterpretation": "PALETTE COLOR"}),
        ("voi", grey16, {"voi": True}), ("modality", grey8, {"modality": True}), ("inverted", grey8,
        {"PhotometricInterpretation": "MONOCHROME1"}),
        ("planar", colour, {"PlanarConfiguration": 1}), ("wide", grey16.astype(np.uint32) * 60_000, {}), ("enhanced",
        grey16, {"enhanced": True}),
    ):  # fmt: skip
        for coding in CODINGS:
            film = _film(pixels, dict(options))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    _encode(film, coding, pixels)
                    film.save_as(folder / f"{name}-{coding}.dcm", enforce_file_format=True)
            except Exception:  # not every coding takes every kind of pixels
                (folder / f"{name}-{coding}.dcm").unlink(missing_ok=True)


CODINGS = ("explicit", "implicit", "big", "deflated", "rle", "jpeg", "jpegls", "near", "j2k", "j2kr", "lossless")


def _film(pixels: Any, options: dict[str, Any]) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.sequence import Sequence
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = CTImageStorage
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = "1.2.3.4"
    film.Modality, film.PatientName, film.PatientID = "CT", "Nobody^Noah", "N0B0DY"
    film.ImagePositionPatient, film.ImageOrientationPatient = ["0", "0", "1"], ["1", "0", "0", "0", "1", "0"]
    colour = pixels.ndim == 3 and pixels.shape[2] == 3
    film.Rows, film.Columns = pixels.shape[:2] if colour or pixels.ndim == 2 else pixels.shape[1:]
    film.SamplesPerPixel = 3 if colour else 1
    if colour:
        film.PlanarConfiguration = 0
    film.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    bits = pixels.dtype.itemsize * 8
    film.BitsAllocated, film.BitsStored, film.HighBit = (
        bits,
        bits if bits != 16 else 12,
        (bits if bits != 16 else 12) - 1,
    )
    if pixels.dtype == np.int16:
        film.BitsStored, film.HighBit = 16, 15
    film.PixelRepresentation = int(pixels.dtype == np.int16)
    table = Dataset()
    table.LUTExplanation = "x"
    if options.pop("voi", False):
        table.LUTDescriptor, table.LUTData = [256, 0, 8], list(range(256))
        film.VOILUTSequence = Sequence([table])
    elif options.pop("modality", False):
        table.LUTDescriptor, table.LUTData, table.ModalityLUTType = [256, 0, 16], [3 * n for n in range(256)], "US"
        film.ModalityLUTSequence = Sequence([table])
    elif options.pop("enhanced", False):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = "500", "800"
        group.FrameVOILUTSequence = Sequence([window])
        film.PerFrameFunctionalGroupsSequence = Sequence([group])
    if options.get("PhotometricInterpretation") == "PALETTE COLOR":
        for number, name in enumerate(("Red", "Green", "Blue")):
            setattr(film, f"{name}PaletteColorLookupTableDescriptor", [16, 0, 8])
            setattr(film, f"{name}PaletteColorLookupTableData", bytes((n * 16 + number) % 256 for n in range(16)))
    for name, value in options.items():
        setattr(film, name, value)
    data = np.moveaxis(pixels, 2, 0) if options.get("PlanarConfiguration") else pixels
    film.PixelData = np.ascontiguousarray(data).tobytes()
    film["PixelData"].VR = "OB" if bits == 8 else "OW"
    return film


def _encode(film: Any, coding: str, pixels: Any) -> None:
    from PIL import Image
    from pydicom import uid
    from pydicom.encaps import encapsulate

    plain = {
        "explicit": uid.ExplicitVRLittleEndian,
        "implicit": uid.ImplicitVRLittleEndian,
        "deflated": uid.DeflatedExplicitVRLittleEndian,
    }
    if coding in plain:
        film.file_meta.TransferSyntaxUID = plain[coding]
    elif coding == "big":
        film.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
        film.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    elif coding == "rle":
        film.compress(uid.RLELossless)
    elif coding in ("jpegls", "near"):
        film.compress(
            uid.JPEGLSLossless if coding == "jpegls" else uid.JPEGLSNearLossless,
            **({} if coding == "jpegls" else {"jls_error": 2}),
        )
    elif coding in ("j2k", "j2kr"):
        if (pixels.ndim == 3 and pixels.shape[2] != 3) or pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError("single pictures")
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG2000", no_jp2=True, num_resolutions=2, irreversible=coding == "j2k")
        film.PixelData = encapsulate([stream.getvalue()])
        film["PixelData"].is_undefined_length = True
        film.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless if coding == "j2kr" else uid.JPEG2000
        film.BitsStored, film.HighBit = film.BitsAllocated, film.BitsAllocated - 1
    elif coding == "jpeg":
        if pixels.dtype != np.uint8 or film.PhotometricInterpretation == "PALETTE COLOR":
            raise ValueError("JPEG of 8 bits")
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=95)
        film.PixelData = encapsulate([stream.getvalue()])
        film["PixelData"].is_undefined_length = True
        film.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
        if film.SamplesPerPixel == 3:
            film.PhotometricInterpretation = "YBR_FULL_422"
    else:
        _gdcm_lossless(film, pixels)


def _gdcm_lossless(film: Any, pixels: Any) -> None:
    """Lossless JPEG, which gdcm alone writes."""
    import gdcm
    from pydicom import uid
    from pydicom.encaps import encapsulate, get_frame

    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError("single grey pictures")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "a.dcm", Path(folder) / "b.dcm"
        film.save_as(source, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        if not reader.Read():
            raise ValueError("gdcm reads nothing")
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise ValueError("gdcm changes nothing")
        writer = gdcm.ImageWriter()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(target))
        writer.Write()
        from pydicom import dcmread

        film.PixelData = encapsulate([get_frame(dcmread(target).PixelData, 0, number_of_frames=1)])
    film["PixelData"].is_undefined_length = True
    film.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
