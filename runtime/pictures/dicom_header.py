"""The header of a DICOM file without its pixels."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from ..errors import ImageError
from .dicom import check_deflated

_ONE = threading.Lock()  # the filters of warnings belong to the process, not to a thread


def read_header(stream: BinaryIO, name: str, attributes: Sequence[str] | None) -> Dataset:
    """Some attributes of a DICOM file.

    Args:
        stream: the file, from its beginning.
        name: for messages.
        attributes: keywords of the standard, such as "StudyInstanceUID"; None for all.

    Raises:
        ImageError: it is no DICOM file, or a damaged one; the message holds no value of it.
    """
    wanted = None if attributes is None else [*attributes, "SpecificCharacterSet"]
    with _ONE, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they may quote values
        try:
            check_deflated(stream, name)
            stream.seek(0)
            try:
                return dcmread(stream, stop_before_pixels=True, specific_tags=wanted)
            except InvalidDicomError:
                stream.seek(0)
                found = dcmread(stream, stop_before_pixels=True, specific_tags=wanted, force=True)
        except ImageError:
            raise
        except Exception as error:  # a truncated or hostile header ends in any of a dozen exception types
            raise ImageError(f"{name}: the DICOM header is damaged ({type(error).__name__})") from error
    if "SOPInstanceUID" not in found:
        raise ImageError(f"{name}: not a DICOM file")
    return found
