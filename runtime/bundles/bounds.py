"""What numbers and texts of a manifest may be: types that say more than int, float and str.

A bound is far beyond every model that exists, and near enough that a value within it can't exhaust a machine.
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

_PRINTABLE = (
    r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"  # no control characters, which terminals obey
)

Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Fingerprints = Annotated[str, Meta(max_length=1 << 20, pattern=r"\A(?:[0-9a-f]{8})*\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=rf"\A{_PRINTABLE}+\Z")]
Sentence = Annotated[str, Meta(max_length=4000)]
Label = Annotated[str, Meta(min_length=1, max_length=1000)]
# Inside a bundle, with forward slashes: no drive, no backslash, and no part that is empty, "." or "..".
BundlePath = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=500,
        pattern=r"\A(?![A-Za-z]:)(?!.*\\)(?:(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f-\x9f]{1,255}(?:/(?=[^/])|\Z))+\Z",
    ),
]
# What files are for, and formats of artefacts; what writes a new one adds it here.
ROLES = (
    "config", "golden", "labels", "ollama", "preprocessor", "scores", "special_tokens_map", "subspace", "tokenizer",
    "tokenizer_config", "vision", "vision.data", "text", "text.data", "projector", "projector.data", "language",
    "litert.vision", "litert.text", "litert.golden", "litert.parity", "litert.parity.page",
    "package.vision", "package.text", "package.bank", "package.swift", "web.page", "web.vendor",
    "parity", "parity.page", "coreml.parity", "coreml.parity.page", "teacher.parity", "teacher.parity.page",
    "distillation", "distillation.page",
)  # fmt: skip
FORMATS = ("onnx", "coreml", "litert", "gguf")
PARTS = ("vision", "text", "language", "projector")


def _one_of(*words: str) -> str:
    return rf"\A(?:{'|'.join(map(re.escape, words))})\Z"


Role = Annotated[str, Meta(pattern=_one_of(*ROLES))]
FormatName = Annotated[str, Meta(pattern=_one_of(*FORMATS))]
Part = Annotated[str, Meta(pattern=_one_of(*PARTS))]

Count = Annotated[int, Meta(ge=0, le=2**53)]  # exact as a fraction as well, as other languages read it
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Size = Annotated[int, Meta(ge=1, le=1 << 20)]  # of one dimension of a tensor
Side = Annotated[int, Meta(ge=1, le=4096)]  # pixels: a picture of that side takes 200 MB as float32
SideOrNone = Annotated[int, Meta(ge=0, le=4096)]
Vocabulary = Annotated[int, Meta(ge=1, le=1 << 24)]
TokenId = Annotated[int, Meta(ge=0, lt=1 << 24)]
Context = Annotated[int, Meta(ge=1, le=1 << 26)]
Share = Annotated[float, Meta(ge=0, le=1)]
Mean = Annotated[float, Meta(ge=0, le=1)]
Deviation = Annotated[float, Meta(ge=1e-3, le=1)]
# Of what multiplies and shifts cosines: published models have about 100 and -17.
Scale = Annotated[float, Meta(gt=0, le=1000)]
Bias = Annotated[float, Meta(ge=-1000, le=1000)]
Slope = Annotated[float, Meta(gt=0, le=1000)]  # of what calibrates scores
Offset = Annotated[float, Meta(ge=-1e6, le=1e6)]
Distance = Annotated[float, Meta(ge=0, le=1e9)]
Figure = Annotated[float, Meta(ge=-1e15, le=1e15)]  # of a gate
Opset = Annotated[int, Meta(ge=0, le=100)]
