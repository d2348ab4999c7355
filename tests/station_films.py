"""Small DICOM files for the station's tests."""

from __future__ import annotations

import io
import warnings
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

PNG = b"\x89PNG\r\n\x1a\n"


def film(number: int = 1, study: str = "1.2.1.1", pixels: bytes = b"\0" * 16, **values: Any) -> bytes:
    """A DICOM file whose SOP Instance UID ends with `number`; `values` are attributes by keyword."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", f"{study}.9.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = study, f"{study}.8"
    data.PatientName, data.PatientID, data.Modality, data.InstanceNumber = "Mark^Ann", "P1", "DX", number
    data.Rows, data.Columns, data.BitsAllocated, data.SamplesPerPixel = 4, 4, 8, 1
    data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 7, 0
    data.PhotometricInterpretation, data.PixelData = "MONOCHROME2", pixels
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that break the standard's rules
        for name, value in values.items():
            setattr(data, name, value)
        data.save_as(out, enforce_file_format=True)
    return out.getvalue()
