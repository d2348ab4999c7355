"""medge: open medical AI models as small files that run offline, each with its measured distance from the original.

import medge
encoder = medge.load("bundle")
encoder.classify("film.dcm", ["normal chest x-ray", "pneumonia"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime.encoder import Classification, Encoder, load
    from .runtime.errors import MedgeError
    from .runtime.labels import LabelBank

__version__ = "0.1.0"
__all__ = ["Classification", "Encoder", "LabelBank", "MedgeError", "__version__", "load"]

_HOMES = {
    "Classification": "encoder", "Encoder": "encoder", "load": "encoder", "MedgeError": "errors", "LabelBank": "labels",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on first use, so that `medge --help` need not pay for ONNX Runtime."""
    if name not in _HOMES:
        raise AttributeError(f"module 'medge' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".runtime.{_HOMES[name]}", __name__), name)
