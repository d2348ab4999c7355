"""DICOM: small films of every kind of coding, with other attributes, elements, code streams and bytes."""

from __future__ import annotations

import io
import random
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..films import FOLDER
from ..mutate import TEXTS, mangled
from ..verdict import Kind, WrongError

_LONG = frozenset({b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN", b"OD", b"OL", b"UC", b"UR"})
_US = (0x00280002, 0x00280006, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103)
_TEXT = (
    0x00280004,
    0x00280008,
    0x00281050,
    0x00281051,
    0x00281052,
    0x00281053,
    0x00281056,
    0x00080016,
    0x00080060,
    0x00280120,
)
_SYNTAXES = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.201", "1.2.3", "",
    "\x1b[31m",
)  # fmt: skip
_PHOTOMETRIC = (
    "MONOCHROME1",
    "MONOCHROME2",
    "RGB",
    "PALETTE COLOR",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_ICT",
    "YBR_RCT",
    "HSV",
    "",
    "ARGB",
    "\x1b[31m",
    "YBR_PARTIAL_420",
)
_NUMERIC = (
    "0",
    "-1",
    "1",
    "1e308",
    "-1e308",
    "nan",
    "inf",
    "1e-320",
    "",
    "x",
    "40\\400",
    "0\\0",
    "2147483648",
    "99999999999999999999",
    "1e400",
    "0.5",
    "\\",
)


# Elements of an explicit, little-endian file


def _split(data: bytes) -> tuple[bytes, list[list[Any]]]:
    """What stands before the first element, and [tag, VR, value] of each; the pixels' value is all that is left."""
    at, elements = 132, []
    while at + 8 <= len(data):
        group, number = struct.unpack_from("<HH", data, at)
        vr = data[at + 4 : at + 6]
        if vr in _LONG:
            size, start = struct.unpack_from("<I", data, at + 8)[0], at + 12
        else:
            size, start = struct.unpack_from("<H", data, at + 6)[0], at + 8
        if size == 0xFFFFFFFF:
            elements.append([group << 16 | number, vr, data[start:], True])
            break
        elements.append([group << 16 | number, vr, data[start : start + size], False])
        at = start + size
    return data[:132], elements


def _join(head: bytes, elements: list[list[Any]]) -> bytes:
    parts = [head]
    for tag, vr, value, endless in elements:
        start = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
        if vr in _LONG:
            start += b"\0\0" + struct.pack("<I", 0xFFFFFFFF if endless else len(value))
        else:
            value = value[:65534]
            start += struct.pack("<H", len(value))
        parts.append(start + value)
    return b"".join(parts)


def make(rng: random.Random, base: Path) -> bytes:
    films = sorted((base / FOLDER).glob("*.dcm"))
    path = rng.choice(films)
    data = path.read_bytes()
    structured = path.stem.rpartition("-")[2] not in ("implicit", "big", "deflated")
    if not structured or rng.random() < 0.2:
        changed = mangled(rng, data, head=900)
        return changed[132:] if rng.random() < 0.05 else changed
    head, elements = _split(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _change(rng, elements)
    return _join(head, elements)


def _change(rng: random.Random, elements: list[list[Any]]) -> None:
    at = rng.randrange(len(elements))
    element = elements[at]
    action = rng.choice(
        (
            "number",
            "number",
            "number",
            "text",
            "text",
            "syntax",
            "pixels",
            "pixels",
            "pixels",
            "delete",
            "twice",
            "empty",
            "vr",
            "text of any",
            "add",
            "frames",
        )
    )
    if action == "number":
        wanted = [one for one in elements if one[0] in _US]
        element = rng.choice(wanted)
        old = struct.unpack("<H", element[2][:2].ljust(2, b"\0"))[0]
        new = rng.choice(
            (
                old + 1,
                old - 1,
                old * 2,
                old // 2,
                0,
                1,
                3,
                7,
                8,
                16,
                32,
                64,
                255,
                4096,
                12247,
                65535,
                rng.randrange(65536),
            )
        )
        element[2] = struct.pack("<H", new & 0xFFFF)
    elif action == "text":
        tag = rng.choice(_TEXT)
        value = rng.choice(
            _PHOTOMETRIC
            if tag == 0x00280004
            else ("LINEAR", "SIGMOID", "LINEAR_EXACT", "X", "")
            if tag == 0x00281056
            else _NUMERIC
        )
        _put(elements, tag, {0x00280004: b"CS", 0x00281056: b"CS", 0x00280008: b"IS"}.get(tag, b"DS"), value.encode())
    elif action == "syntax":
        _put(elements, 0x00020010, b"UI", rng.choice(_SYNTAXES).encode())
    elif action == "frames":
        _put(elements, 0x00280008, b"IS", rng.choice((*_NUMERIC, "2", "4", "1000000")).encode())
    elif action == "pixels":
        pixels = elements[-1]
        pixels[2] = mangled(rng, pixels[2], head=120)
    elif action == "delete":
        del elements[at]
    elif action == "twice":
        elements.insert(at, list(element))
    elif action == "empty":
        element[2] = b""
    elif action == "vr":
        element[1] = rng.choice((b"OB", b"US", b"SQ", b"DS", b"UN", b"XX", b"FD", b"AT", b"UT"))
    elif action == "add":
        tag, vr, value = rng.choice((
            (0x00283010, b"SQ", b"\xfe\xff\x00\xe0" + struct.pack("<I", 8) + b"\x28\x00\x02\x30US"), (0x00283000, b"SQ",
            b""), (0x00281056, b"CS", b"SIGMOID "),
            (0x52009229, b"SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 500), (0x00280120, b"US", b"\1\0"), (0x00080005,
            b"CS", b"ISO 2022 IR 999 "), (0x60003000, b"OW", b"\1" * 8),
            (0x7FE00008, b"OF", b"\0" * 4), (0x00280301, b"US", b"1"),
        ))  # fmt: skip
        _put(elements, tag, vr, value)
    else:
        element[2] = rng.choice(TEXTS).encode("utf-8", "surrogatepass")


def _put(elements: list[list[Any]], tag: int, vr: bytes, value: bytes) -> None:
    value += b" " * (len(value) % 2) if vr != b"UI" else b"\0" * (len(value) % 2)
    for element in elements:
        if element[0] == tag:
            element[2] = value
            return
    at = next((index for index, element in enumerate(elements) if element[0] > tag), len(elements))
    elements.insert(at, [tag, vr, value, False])


def run(content: bytes, place: Path, base: Path) -> None:
    from medge.runtime.pictures.ct_series import read_series
    from medge.runtime.pictures.images import read_image

    path = place / "film.dcm"
    path.write_bytes(content)
    try:
        pixels = read_image(path)
    finally:
        try:
            series = read_series([path])
        except Exception as error:
            from medge.runtime.errors import MedgeError

            if not isinstance(error, MedgeError):
                raise
        else:
            if any(one.dtype != np.uint8 or one.ndim != 3 for one in series.slices):
                raise WrongError("a slice of a series is no picture")
    _check(content, pixels)


def _check(content: bytes, pixels: Any) -> None:
    """What was read is as large as the header says, and the header says what the pixel data holds."""
    from pydicom import dcmread

    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise WrongError(f"a picture of {pixels.dtype}{pixels.shape}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head = dcmread(io.BytesIO(content), force=True)
        size = int(head.Rows), int(head.Columns)
        if pixels.shape[:2] != size:
            raise WrongError(f"a picture of {pixels.shape[:2]}, the header says {size}")
        syntax = head.file_meta.get("TransferSyntaxUID") if hasattr(head, "file_meta") else None
        if syntax is not None and syntax.is_compressed and not syntax.is_deflated:
            return
        samples, frames = int(head.get("SamplesPerPixel", 1)), int(head.get("NumberOfFrames", 1) or 1)
        needed = size[0] * size[1] * samples * int(head.BitsAllocated) // 8 * max(frames, 1)
        if str(head.PhotometricInterpretation).strip() == "YBR_FULL_422":
            needed = needed * 2 // 3
        if not needed <= len(head.PixelData) <= needed + 1:
            raise WrongError(f"the pixel data has {len(head.PixelData)} bytes, the header says {needed}")


KIND = Kind(make, run, suffix=".dcm", modules=("numpy", "PIL.Image", "pydicom", "pydicom.pixels", "pydicom.pixels.decoders",
    "medge.runtime.pictures.dicom",
                                               "medge.runtime.pictures.images", "medge.runtime.pictures.ct_series"),
                                               batch=60, share=4)  # fmt: skip
