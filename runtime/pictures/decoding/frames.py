"""Frames of compressed DICOM as OpenJPEG, CharLS and GDCM decode them; each is imported in its own process alone.

What GDCM needs is taken over from pydicom's plugin (pydicom.pixels.decoders.gdcm), which would import pydicom here as well.
"""

from __future__ import annotations

from typing import Any, cast

from .protocol import Raster, Refusal


def decode_jpeg_2000(payload: bytes, options: dict[str, Any]) -> Raster:
    """JPEG 2000 and High-Throughput JPEG 2000, by OpenJPEG."""
    from openjpeg import decode_pixel_data

    frame = cast(bytearray, decode_pixel_data(payload, version=2))  # what version 2 gives
    return _as_stated(frame, options, planar=0)


def decode_jpeg_ls(payload: bytes, options: dict[str, Any]) -> Raster:
    """JPEG-LS, by CharLS."""
    from jpeg_ls import decode_pixel_data

    frame, facts = decode_pixel_data(payload)
    if (facts["height"], facts["width"]) != (options["rows"], options["columns"]):
        raise Refusal(f"the compressed frame has {facts['width']} x {facts['height']} pixels")
    return _as_stated(frame, options, planar=int(facts["components"] > 1 and facts["interleave_mode"] == 0))


def decode_by_gdcm(payload: bytes, options: dict[str, Any]) -> Raster:
    """Lossless JPEG, and JPEG-LS where there is no CharLS, by GDCM."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(payload)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((options["columns"], options["rows"], 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(options["photometric"])
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if options["samples"] > 1:
        image.SetPlanarConfiguration(options["planar"])
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(options["syntax"])))
    bits = options["precision"]
    allocated = 8 * options["itemsize"]
    image.SetPixelFormat(gdcm.PixelFormat(options["samples"], allocated, bits, bits - 1, options["signed"]))
    frame = image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM gives its char* as str
    return _as_stated(frame, options, planar=options["planar"])


def _as_stated(frame: bytes | bytearray, options: dict[str, Any], planar: int) -> Raster:
    """Bytes that must be as many as the header's rows, columns and samples take."""
    rows, columns, samples, itemsize = (options[name] for name in ("rows", "columns", "samples", "itemsize"))
    return Raster(rows, columns, samples, itemsize, planar, len(frame), [frame])
