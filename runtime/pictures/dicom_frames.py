"""Compressed frames of DICOM: which decoder takes which transfer syntax, and what must hold before and after.

pydicom finds the frame and makes an array of what is decoded (bits, signs, planes, colours); between the two, a decoder process
turns bytes into bytes.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.pixels.decoders.base import Decoder, DecodeRunner

from .codestream import read_header
from .decoding.protocol import CHARLS, GDCM, OPENJPEG, PILLOW, Refusal
from .decoding.worker import WORKERS
from .limits import size_problem

# GDCM ends its process over damaged JPEG-LS: it decodes what nothing else does.
_JPEG_LS = (CHARLS if find_spec("jpeg_ls") else GDCM, "frame")
_DECODERS: dict[str, tuple[str, str]] = {
    uid.JPEGBaseline8Bit: (PILLOW, "jpeg"),
    uid.JPEGExtended12Bit: (PILLOW, "jpeg"),
    uid.JPEGLossless: (GDCM, "frame"),
    uid.JPEGLosslessSV1: (GDCM, "frame"),
    uid.JPEGLSLossless: _JPEG_LS,
    uid.JPEGLSNearLossless: _JPEG_LS,
    uid.JPEG2000Lossless: (OPENJPEG, "frame"),
    uid.JPEG2000: (OPENJPEG, "frame"),
    uid.HTJ2KLossless: (OPENJPEG, "frame"),
    uid.HTJ2KLosslessRPCL: (OPENJPEG, "frame"),
    uid.HTJ2K: (OPENJPEG, "frame"),
    uid.RLELossless: (PILLOW, "rle"),
}
_PLUGIN = "medge"


class HeaderRefusal(Refusal):
    """A header that contradicts its pixels, or states what is no number."""


DECODER_DEPENDENCIES: dict[str, tuple[str, ...]] = dict.fromkeys(_DECODERS, ())  # pydicom's interface for plugins


def is_available(syntax: str) -> bool:
    """Whether this decodes a transfer syntax: pydicom's interface for plugins."""
    return syntax in _DECODERS


@cache
def _decoder(syntax: uid.UID) -> Decoder:
    """A decoder of our own: pydicom's are not touched, since a program may use them for itself."""
    decoder = Decoder(syntax)
    decoder.add_plugin(_PLUGIN, (__name__, "decode_frame"))
    return decoder


def decode(dataset: Dataset, frame: int) -> NDArray[Any]:
    """One frame's stored values, (H, W) or (H, W, 3), colours as RGB.

    Raises:
        HeaderRefusal: the frame is another one than the file's header says.
        Refusal: it can't be decoded.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not is_available(syntax):
        raise Refusal("nothing here decodes this transfer syntax")
    refusals: list[Refusal] = []
    try:
        options: dict[str, Any] = {"refusals": refusals}
        return _decoder(syntax).as_array(dataset, index=frame, decoding_plugin=_PLUGIN, **options)[0]
    except RuntimeError:
        if refusals:  # pydicom has made a list of its plugins' complaints of it
            raise refusals[0] from None
        raise


def decode_frame(source: bytes, runner: DecodeRunner) -> memoryview:
    """One frame's bytes as pydicom's plugins give them: pydicom calls this."""
    try:
        return _decode_frame(source, runner)
    except Refusal as refusal:
        runner.get_option("refusals").append(refusal)
        raise


def _decode_frame(source: bytes, runner: DecodeRunner) -> memoryview:
    syntax = runner.transfer_syntax
    library, what = _DECODERS[syntax]
    precision = _check(source, runner)
    itemsize = _itemsize(runner, library, precision)
    if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        precision = runner.bits_stored
    by_pixel = runner.samples_per_pixel == 1 or syntax in uid.JPEGLSTransferSyntaxes
    options = {
        "rows": runner.rows, "columns": runner.columns, "samples": runner.samples_per_pixel,
        "itemsize": itemsize, "precision": precision, "signed": runner.pixel_representation,
        "photometric": str(runner.photometric_interpretation),
        "planar": 0 if by_pixel else runner.planar_configuration, "syntax": str(syntax),
        "pixels": runner.rows * runner.columns,
    }  # fmt: skip
    pixels, planar = WORKERS.decode(library, what, bytes(source), options)
    expected = runner.rows * runner.columns * runner.samples_per_pixel * itemsize
    if pixels.nbytes != expected:
        raise Refusal(f"the decoded frame has {pixels.nbytes} bytes, the header needs {expected}")
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", planar)
    runner.set_option("bits_allocated", 8 * itemsize)
    if library == OPENJPEG and runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
        runner.set_option("photometric_interpretation", "RGB")  # OpenJPEG undoes these itself
    return pixels.data.cast("B")


def _check(source: bytes, runner: DecodeRunner) -> int:
    """Refuse a frame whose own header contradicts the file's, before a decoder sees it; the bits of its samples."""
    syntax = runner.transfer_syntax
    if syntax == uid.RLELossless:
        return int(runner.bits_stored)
    try:
        header = read_header(source)
    except ValueError as error:
        raise Refusal(str(error)) from error
    if header is None:
        raise HeaderRefusal("the compressed frame doesn't begin as its transfer syntax demands")
    if (header.rows, header.columns) != (runner.rows, runner.columns):
        if problem := size_problem(header.rows, header.columns):
            raise HeaderRefusal(problem)
        raise HeaderRefusal(
            f"the header says {runner.columns} x {runner.rows} pixels, the compressed frame "
            f"{header.columns} x {header.rows}"
        )
    if header.samples != runner.samples_per_pixel:
        raise HeaderRefusal(
            f"the header says {runner.samples_per_pixel} samples a pixel, the compressed frame {header.samples}"
        )
    if header.precision > runner.bits_allocated:
        raise HeaderRefusal(
            f"the compressed frame has {header.precision} bits, the header room for {runner.bits_allocated}"
        )
    if header.precision > 8 and syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        raise Refusal(
            "lossy JPEG of 12 bits is not decoded here; convert it to another transfer syntax, with DCMTK's dcmdjpeg say"
        )
    return header.precision


def _itemsize(runner: DecodeRunner, library: str, precision: int) -> int:
    """Bytes that the decoder gives for a sample: what its precision takes, where it doesn't go by the file's header."""
    if library in (OPENJPEG, CHARLS) or runner.transfer_syntax in uid.JPEGLSTransferSyntaxes:
        return 1 if precision <= 8 else 2 if precision <= 16 else 4
    return 1 if library == PILLOW and runner.transfer_syntax != uid.RLELossless else int(runner.bits_allocated) // 8
