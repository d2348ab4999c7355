"""medge: open medical AI models as small files that run offline, each with its measured distance from the original.

import medge
medge.load("medsiglip-bundle").classify("film.dcm", ["normal chest x-ray", "pneumonia"])
medge.load("medgemma-bundle").ask("film.dcm", "Is there a pleural effusion?").text
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime.encoder import Classification, Encoder
    from .runtime.encoder import load as load_encoder
    from .runtime.errors import MedgeError
    from .runtime.generator import Answer, Generator, assistant, system, user
    from .runtime.generator import load as load_generator
    from .runtime.labels import LabelBank
    from .runtime.load import load

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Classification",
    "Encoder",
    "Generator",
    "LabelBank",
    "MedgeError",
    "__version__",
    "assistant",
    "load",
    "load_encoder",
    "load_generator",
    "system",
    "user",
]

# name -> (module, its name there)
_HOMES = {
    "Answer": ("generator", "Answer"), "Classification": ("encoder", "Classification"), "Encoder": ("encoder", "Encoder"),
    "Generator": ("generator", "Generator"), "LabelBank": ("labels", "LabelBank"), "MedgeError": ("errors", "MedgeError"),
    "assistant": ("generator", "assistant"), "load": ("load", "load"), "load_encoder": ("encoder", "load"),
    "load_generator": ("generator", "load"), "system": ("generator", "system"), "user": ("generator", "user"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on first use, so that `medge --help` need not pay for ONNX Runtime."""
    if name not in _HOMES:
        raise AttributeError(f"module 'medge' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(f".runtime.{module}", __name__), attribute)
