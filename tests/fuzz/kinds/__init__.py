"""The kinds of files that are changed, a line each; a folder of the corpus is named by its kind."""

from __future__ import annotations

from ..verdict import Kind
from . import arguments, dicom, gguf, index, manifest, onnx, pictures, records, sealed, template, tensors, texts

KINDS: dict[str, Kind] = {
    "manifest": manifest.KIND,
    "tensors": tensors.KIND,
    "onnx": onnx.KIND,
    "gguf": gguf.KIND,
    "template": template.KIND,
    "index": index.KIND,
    "dicom": dicom.KIND,
    "pictures": pictures.KIND,
    "records": records.KIND,
    "texts": texts.KIND,
    "arguments": arguments.KIND,
    "sealed": sealed.KIND,
}
