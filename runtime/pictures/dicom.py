"""DICOM to pixels: modality and VOI transforms, photometric interpretations, frames, and honest refusals.

pydicom parses, and reads pixels that are not compressed; compressed ones are decoded at arm's length (`dicom_frames`).
What is here decides what to show: which frame, which window, which polarity, and what is not an image at all.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, config, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi, pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from ..errors import ImageError
from .decoding.protocol import clause
from .dicom_frames import HeaderRefusal, decode
from .limits import MAX_PIXELS, check_size
from .preprocess import Pixels, spread_grey
from .view import DEFAULT_VIEW, View

# Objects that carry pixels which are not a picture of a patient: dose grids, label masks, measured maps.
NOT_PICTURES = {
    "1.2.840.10008.5.1.4.1.1.481.2": "an RT dose grid",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation (label mask)",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map segmentation",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
}
BITS = (1, 8, 16, 24, 32, 40, 48, 56, 64)  # of a sample
MOST_FRAMES = 2**31 - 1  # what the standard's integer strings hold
GREY = {"MONOCHROME1", "MONOCHROME2"}
COLOUR = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "YBR_PARTIAL_422"}


def read_dicom(stream: BinaryIO, name: str, view: View = DEFAULT_VIEW) -> Pixels:
    """Decode one frame of a file as it would be shown: (H, W, 3) uint8. `name` is for messages.

    Grey images go through the modality transform (rescale slope and intercept, or its LUT), then the given window,
    else the file's VOI LUT, else its first window, else the range of its own values; MONOCHROME1 is inverted.

    Raises:
        ImageError: not DICOM, not a picture, too large, damaged, or of a kind that can't be decoded.
    """
    with _decoded(stream, name, view.frame) as (dataset, values, chosen):
        photometric = str(dataset.PhotometricInterpretation).strip()
        if photometric in GREY and values.ndim == 2:
            return _show_grey(dataset, values, chosen, view.window, invert=photometric == "MONOCHROME1")
        if photometric == "PALETTE COLOR" and values.ndim == 2:
            return _show_palette(dataset, values)
        if photometric in COLOUR and values.ndim == 3:
            return _to_8_bit(values, int(dataset.get("BitsStored", 8)))
        raise ImageError(f"{name}: its photometric interpretation doesn't fit its samples")


def read_units(path: Path) -> NDArray[np.float64]:
    """The middle grey frame in its rescaled units (HU for CT), (H, W), with no window applied.

    Raises:
        ImageError: as in `read_dicom`, or the picture has colours.
    """
    with _opened(path) as stream, _decoded(stream, str(path), None) as (dataset, values, chosen):
        if values.ndim != 2:
            raise ImageError(f"{path}: a picture in colours has no units such as HU")
        return _units(dataset, values, chosen)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from error
    with stream:
        yield stream


@contextlib.contextmanager
def _decoded(stream: BinaryIO, path: str, frame: int | None) -> Iterator[tuple[Dataset, NDArray[Any], int]]:
    """Parse, check and decode one frame: (data set, stored values, which frame). Whatever fails is an `ImageError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # clinics' files break rules all the time; what matters is raised
        dataset = _parse(stream, path)
        try:
            frames = _check_is_picture(dataset, path)
        except ImageError:
            raise
        except Exception as error:  # pydicom parses a value when it is asked for, and raises a dozen types then
            raise _damaged(path, error) from error
        chosen = frames // 2 if frame is None else frame
        if not 0 <= chosen < frames:
            raise ImageError(f"{path}: has {frames} frame(s), so there is no frame {chosen}")
        try:
            if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
                values = decode(dataset, chosen)
            else:
                _check_length(dataset, path, frames)
                values = pixel_array(dataset, index=chosen)
            del dataset.PixelData  # which may be hundreds of megabytes
            yield dataset, values, chosen
        except ImageError:
            raise
        except HeaderRefusal as error:
            raise ImageError(f"{path}: {error}") from error
        except Exception as error:  # pydicom and its plugins raise dozens of types for damaged pixel data
            syntax = _known_name(dataset.file_meta.get("TransferSyntaxUID"))
            how = f" (transfer syntax {syntax})" if syntax else ""
            raise ImageError(f"{path}: the pixel data can't be decoded{how}: {_reason(error)}") from error


def _damaged(path: str, error: Exception) -> ImageError:
    """Without the error's own words: they may hold a value of the file."""
    return ImageError(f"{path}: the DICOM header is damaged ({type(error).__name__})")


def _known_name(identifier: object) -> str:
    """The standard's name of a UID; "" of what it doesn't know, since nothing that a file says belongs in a message."""
    written = str(identifier or "")
    name = UID(written).name if written else ""
    return "" if name == written else name


def _reason(error: Exception) -> str:
    """One short clause from a parser's or a decoder's error."""
    return clause(str(error)) or type(error).__name__


def _parse(stream: BinaryIO, path: str) -> Dataset:
    try:
        check_deflated(stream, path)
        stream.seek(0)
        try:
            dataset = dcmread(stream)
        except InvalidDicomError:
            stream.seek(0)
            dataset = dcmread(stream, force=True)  # a data set without preamble is common in old archives
            if "Rows" not in dataset and "SOPClassUID" not in dataset:
                raise ImageError(f"{path}: not a DICOM file") from None
        if not hasattr(dataset, "file_meta") or "TransferSyntaxUID" not in dataset.file_meta:
            _assume_transfer_syntax(dataset)
        return dataset
    except ImageError:
        raise
    except Exception as error:  # a truncated or hostile header ends in any of a dozen exception types
        raise _damaged(path, error) from error


def _assume_transfer_syntax(dataset: Dataset) -> None:
    """A data set without file meta was read by guess: say to the decoder what the parser found."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    implicit, little = dataset.original_encoding
    uid = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = uid


def check_deflated(stream: BinaryIO, path: str) -> None:
    """pydicom inflates a deflated data set whole: count its bytes in small pieces first."""
    try:
        read_preamble(stream, force=True)
        syntax = _read_file_meta_info(stream).get("TransferSyntaxUID")
    except Exception:  # no file meta: then it isn't deflated either, and _parse says what is wrong
        return
    if syntax != DeflatedExplicitVRLittleEndian:
        return
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not inflater.eof and (piece := inflater.unconsumed_tail or stream.read(1 << 16)):
        total += len(inflater.decompress(piece, 1 << 20))
        if total > 4 * MAX_PIXELS:
            raise ImageError(f"{path}: refused before decoding, inflates to more than {4 * MAX_PIXELS} bytes")


def _check_is_picture(dataset: Dataset, path: str) -> int:
    sop_class = dataset.get("SOPClassUID", "")
    kind = NOT_PICTURES.get(str(sop_class))
    if kind is not None:
        raise ImageError(f"{path}: this is {kind}, not a picture")
    if "PixelData" not in dataset:
        raise ImageError(f"{path}: holds no pixel data ({_known_name(sop_class) or 'no image'})")
    for name in ("Rows", "Columns", "PhotometricInterpretation", "BitsAllocated"):
        if dataset.get(name) in (None, ""):
            raise ImageError(f"{path}: the required attribute {name} is missing, so the pixels have no known shape")
    if str(dataset.PhotometricInterpretation).strip() not in GREY | COLOUR | {"PALETTE COLOR"}:
        raise ImageError(f"{path}: its photometric interpretation is not supported")
    short = range(65536)
    for name, allowed in (("Rows", short), ("Columns", short), ("SamplesPerPixel", (1, 3)), ("BitsAllocated", BITS)):
        if int(dataset.get(name, 1)) not in allowed:
            raise ImageError(f"{path}: {name} has a value that no picture has")
    check_size(path, int(dataset.Rows), int(dataset.Columns))
    if int(dataset.BitsAllocated) == 1:
        raise ImageError(f"{path}: one bit per pixel is a mask, not a picture")
    try:
        frames = max(int(dataset.get("NumberOfFrames", 1) or 1), 1)
        if frames > MOST_FRAMES:
            raise ValueError
        return frames
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError(f"{path}: NumberOfFrames is not a number") from error


def _check_length(dataset: Dataset, path: str, frames: int) -> None:
    """Pixels that are not compressed must be as many bytes as the header's figures take, one more where that is odd.

    A picture whose Columns are wrong would be read sheared, and scored. Some devices append zeros: these are let pass where the
    picture does not fit together better with as many more columns.
    """
    samples, bits = int(dataset.get("SamplesPerPixel", 1) or 1), int(dataset.BitsAllocated)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    pixel = samples * bits // 8
    if str(dataset.PhotometricInterpretation).strip() == "YBR_FULL_422":
        pixel = 2 * bits // 8  # two pixels share their colours
    expected = rows * columns * pixel * frames
    content = dataset.PixelData
    extra = len(content) - expected
    if extra in (0, expected % 2):
        return
    if extra > 0 and not any(content[expected:]):
        more, rest = divmod(extra, rows * pixel * frames)
        if rest or not more or _fits(content, rows, columns, pixel) < _fits(content, rows, columns + more, pixel):
            return
    raise ImageError(
        f"{path}: the pixel data can't be decoded: it has {len(content)} bytes, and {frames} frame(s) of {columns} x {rows} "
        f"pixels take {expected}; Rows, Columns or the data are wrong"
    )


def _fits(content: bytes, rows: int, columns: int, pixel: int) -> float:
    """How little neighbouring rows differ when the first frame is laid out like this: the bytes of their mean difference."""
    lines = np.frombuffer(content, np.uint8, rows * columns * pixel).reshape(rows, columns * pixel)
    steps = range(0, max(rows - 1, 1), max(rows // 64, 1))
    pairs = [np.abs(lines[row].astype(int) - lines[min(row + 1, rows - 1)]).mean() for row in steps]
    return float(np.mean(pairs))


def _functional_groups(dataset: Dataset, frame: int) -> list[Dataset]:
    """Where an enhanced multi-frame object keeps its transforms: this frame's groups, then the shared ones."""
    groups: list[Dataset] = []
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame and frame < len(per_frame):
        groups.append(per_frame[frame])
    shared = dataset.get("SharedFunctionalGroupsSequence")
    return groups + (list(shared[:1]) if shared else [])


def _transform(dataset: Dataset, frame: int, sequence: str, wanted: str) -> Dataset:
    """The data set that states `wanted`: the image's own, or the functional group that `sequence` names."""
    if wanted in dataset:
        return dataset
    for group in _functional_groups(dataset, frame):
        if group.get(sequence) and wanted in group[sequence][0]:
            return group[sequence][0]
    return dataset


def _number(dataset: Dataset, name: str) -> float | None:
    """The first of a possibly multi-valued number, or None where there is none.

    Raises:
        HeaderRefusal: it is no number that can be reckoned with.
    """
    value = dataset.get(name)
    if not isinstance(value, str) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise HeaderRefusal(f"{name} is not a finite number")
    return number


def _show_grey(
    dataset: Dataset, raw: NDArray[Any], frame: int, window: tuple[float, float] | None, *, invert: bool
) -> NDArray[np.uint8]:
    show = _how_shown(dataset, raw, frame, window)

    def grey(stored: NDArray[Any]) -> NDArray[np.uint8]:
        levels = np.rint(np.clip(show(stored), 0, 1) * 255).astype(np.uint8)
        return 255 - levels if invert else levels

    return _each(raw, grey)


def _each(raw: NDArray[Any], grey: Callable[[NDArray[Any]], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """A picture, (H, W, 3), of stored values, (H, W): each value on its own, a strip at a time, which spares memory.

    Of up to 16 bits there are fewer values than a film has pixels: they are looked up.
    """
    shown = np.empty((*raw.shape, 3), np.uint8)
    table = None
    if raw.dtype.itemsize <= 2 and raw.size > 1 << 16:
        kind = np.dtype(f"u{raw.dtype.itemsize}")
        raw = np.ascontiguousarray(raw, raw.dtype.newbyteorder("="))
        table = grey(np.arange(1 << 8 * raw.dtype.itemsize, dtype=kind).view(raw.dtype))
        raw = raw.view(kind)
    for strip in _strips(raw):
        levels = grey(raw[strip]) if table is None else table[raw[strip]]
        spread_grey(levels, shown[strip])
    return shown


def _strips(raw: NDArray[Any]) -> Iterator[slice]:
    step = max((1 << 18) // max(raw.shape[1], 1), 1)
    return (slice(top, top + step) for top in range(0, len(raw), step))


def _how_shown(
    dataset: Dataset, raw: NDArray[Any], frame: int, window: tuple[float, float] | None
) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """What makes brightness, 0 to 1 or beyond, of stored values."""
    voi = _transform(dataset, frame, "FrameVOILUTSequence", "WindowCenter")
    centre, width = _number(voi, "WindowCenter"), _number(voi, "WindowWidth")
    if window is not None:
        chosen = window
        return lambda stored: _window(_units(dataset, stored, frame), *chosen, "LINEAR")
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        if not 1 <= bits <= 16:
            raise HeaderRefusal(f"the VOI LUT has entries of {bits} bits")
        return lambda stored: apply_voi(_units(dataset, stored, frame).astype(np.int64), dataset) / (2**bits - 1)
    if centre is not None and width is not None and width >= 1:
        found, function = (centre, width), str(voi.get("VOILUTFunction", "LINEAR"))
        return lambda stored: _window(_units(dataset, stored, frame), *found, function)
    if int(dataset.get("BitsStored", 0)) == 8 and not dataset.get("PixelRepresentation"):
        return lambda stored: _units(dataset, stored, frame) / 255  # no window stated: 8-bit values as they are
    low, high = _own_range(dataset, raw, frame)
    if high <= low:
        return lambda stored: np.zeros(stored.shape)
    return lambda stored: (_units(dataset, stored, frame) - low) / (high - low)


def _units(dataset: Dataset, raw: NDArray[Any], frame: int) -> NDArray[np.float64]:
    """Stored values through the modality transform: a LUT, or slope and intercept."""
    if "ModalityLUTSequence" in dataset:
        values = np.asarray(apply_modality_lut(raw, dataset), np.float64)
    else:
        source = _transform(dataset, frame, "PixelValueTransformationSequence", "RescaleSlope")
        slope, intercept = _number(source, "RescaleSlope"), _number(source, "RescaleIntercept")
        values = raw.astype(np.float64) * (1.0 if slope is None else slope) + (intercept or 0.0)
    if not np.isfinite(values).all():
        raise HeaderRefusal("the rescaled values are not finite numbers")
    return values


def _window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3: LINEAR, LINEAR_EXACT or SIGMOID, to [0, 1]."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    if width <= 1:
        return (values > centre - 0.5).astype(np.float64)
    return (values - (centre - 0.5)) / (width - 1) + 0.5


def _own_range(dataset: Dataset, raw: NDArray[Any], frame: int) -> tuple[float, float]:
    """The least and the greatest value of a picture, padding left out."""
    padding = dataset.get("PixelPaddingValue")
    if isinstance(padding, int) and (raw == padding).all():
        padding = None
    low, high = np.inf, -np.inf
    for strip in _strips(raw):
        stored = raw[strip]
        real = stored[stored != padding] if isinstance(padding, int) else stored
        if real.size:
            values = _units(dataset, real, frame)
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


def _show_palette(dataset: Dataset, values: NDArray[Any]) -> NDArray[np.uint8]:
    if not dataset.file_meta.TransferSyntaxUID.is_little_endian:
        # pydicom 3.0 reads a table of 16-bit entries in the machine's byte order, whatever the file's is.
        for colour in ("Red", "Green", "Blue"):
            keyword = f"{colour}PaletteColorLookupTableData"
            entries = dataset.get(f"{colour}PaletteColorLookupTableDescriptor", [0])[0] or 65536
            if len(dataset.get(keyword, b"")) == 2 * entries:
                setattr(dataset, keyword, np.frombuffer(dataset[keyword].value, ">u2").astype("<u2").tobytes())
    return _to_8_bit(apply_color_lut(values, dataset), 0)


def _to_8_bit(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Colour of any depth to 8 bits; bits = 0 means the depth of the dtype (what a palette gives)."""
    depth = bits or values.dtype.itemsize * 8
    shown = np.empty((*values.shape[:2], 3), np.uint8)
    for strip in _strips(values):
        piece = values[strip][..., :3]
        if depth > 8:
            piece = np.rint(np.clip(piece.astype(np.float64) * (255 / (2**depth - 1)), 0, 255))
        shown[strip] = piece.astype(np.uint8)
    return shown


# A malformed value in an attribute that is never looked at must not stop the picture from being read.
config.settings.reading_validation_mode = config.IGNORE
# pydicom logs the traceback of every plugin that gives up; what matters of it is in the ImageError.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
