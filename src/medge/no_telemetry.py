"""medge sends nothing and counts nothing, and neither may what it imports.

Imported first of all, so that each switch is set before the library that reads it. `docs/privacy.md` says what was found.
"""

from __future__ import annotations

import os
import sys

# What each library reads to keep its records to itself.
SWITCHES = {
    # ONNX Runtime from 1.32: a device id and a database in the user's cache folder, and a connection to its maker. Calling
    # disable_telemetry_events() after the import leaves the files.
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",  # read by several, huggingface_hub among them
}
# Counts uses as soon as OpenVINO is imported, and no variable stops it; where it can't be imported, OpenVINO goes on without.
REFUSED = "openvino_telemetry"
# A checkpoint is a folder: nothing is looked up by name. Only in medge's own programs, since a program that uses medge as a
# library may have reasons of its own to ask a hub.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def switch_off() -> None:
    """Set the switches; ONNX Runtime, where a program imported it before medge, is told by its own function."""
    os.environ.update(SWITCHES)
    sys.modules.setdefault(REFUSED, None)  # type: ignore[arg-type]  # how Python writes down that an import is refused
    if (imported := sys.modules.get("onnxruntime")) is not None and hasattr(imported, "disable_telemetry_events"):
        imported.disable_telemetry_events()


def stay_offline() -> None:
    """Keep Hugging Face's libraries from asking a hub; for medge's own programs."""
    os.environ.update(OFFLINE)
