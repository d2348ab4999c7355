"""The kinds of files that are changed, a line each; a folder of the corpus is named by its kind."""

from __future__ import annotations

from ..verdict import Kind
from . import dicom, gguf, index, manifest, onnx, pictures, sealed, template, tensors

KINDS: dict[str, Kind] = {
    "manifest": manifest.KIND,
    "tensors": tensors.KIND,
    "onnx": onnx.KIND,
    "gguf": gguf.KIND,
    "template": template.KIND,
    "index": index.KIND,
    "dicom": dicom.KIND,
    "pictures": pictures.KIND,
    "sealed": sealed.KIND,
}
