"""medge: open medical AI models as small files that run offline, each with its measured distance from the original.

import medge
medge.load_encoder("bundle").classify("film.dcm", ["normal chest x-ray", "pneumonia"])
medge.load_generator("reader").ask("film.dcm", "Is there a pleural effusion?").text
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .no_telemetry import switch_off

switch_off()

if TYPE_CHECKING:
    from .runtime.assistants.agent import Agent, encoder_tools
    from .runtime.assistants.ct_question import ask_series
    from .runtime.assistants.health_record import answer_from_record
    from .runtime.assistants.radiology_report import write_report
    from .runtime.decisions.calibration import Decision, ScoreCalibration
    from .runtime.decisions.facts import Wanted
    from .runtime.encoder.classification import Classification, Score
    from .runtime.encoder.encoder import Encoder
    from .runtime.encoder.labels import LabelBank
    from .runtime.encoder.linear_probe import Probe, fit_probe
    from .runtime.encoder.load import load as load_encoder
    from .runtime.encoder.maps import PatchMap
    from .runtime.encoder.score_calibration import calibrate_scores
    from .runtime.encoder.vector_index import VectorIndex, build_index
    from .runtime.errors import MedgeError
    from .runtime.generator.conversation import Answer, Sampling, assistant, system, user
    from .runtime.generator.generator import Generator
    from .runtime.generator.load import load as load_generator
    from .runtime.kinds import load
    from .runtime.pictures.images import image
    from .runtime.pictures.view import View

__version__ = "0.1.0"
__all__ = [
    "Agent",
    "Answer",
    "Classification",
    "Decision",
    "Encoder",
    "Generator",
    "LabelBank",
    "MedgeError",
    "PatchMap",
    "Probe",
    "Sampling",
    "Score",
    "ScoreCalibration",
    "VectorIndex",
    "View",
    "Wanted",
    "__version__",
    "answer_from_record",
    "ask_series",
    "assistant",
    "build_index",
    "calibrate_scores",
    "encoder_tools",
    "fit_probe",
    "image",
    "load",
    "load_encoder",
    "load_generator",
    "system",
    "user",
    "write_report",
]

# name -> (module, its name there)
_HOMES = {
    "Agent": ("assistants.agent", "Agent"),
    "Answer": ("generator.conversation", "Answer"),
    "Classification": ("encoder.classification", "Classification"),
    "Decision": ("decisions.calibration", "Decision"),
    "Encoder": ("encoder.encoder", "Encoder"),
    "Generator": ("generator.generator", "Generator"),
    "LabelBank": ("encoder.labels", "LabelBank"),
    "MedgeError": ("errors", "MedgeError"),
    "PatchMap": ("encoder.maps", "PatchMap"),
    "Probe": ("encoder.linear_probe", "Probe"),
    "Score": ("encoder.classification", "Score"),
    "ScoreCalibration": ("decisions.calibration", "ScoreCalibration"),
    "Sampling": ("generator.conversation", "Sampling"),
    "VectorIndex": ("encoder.vector_index", "VectorIndex"),
    "View": ("pictures.view", "View"),
    "Wanted": ("decisions.facts", "Wanted"),
    "answer_from_record": ("assistants.health_record", "answer_from_record"),
    "ask_series": ("assistants.ct_question", "ask_series"),
    "assistant": ("generator.conversation", "assistant"),
    "build_index": ("encoder.vector_index", "build_index"),
    "calibrate_scores": ("encoder.score_calibration", "calibrate_scores"),
    "encoder_tools": ("assistants.agent", "encoder_tools"),
    "fit_probe": ("encoder.linear_probe", "fit_probe"),
    "image": ("pictures.images", "image"),
    "load": ("kinds", "load"),
    "system": ("generator.conversation", "system"),
    "user": ("generator.conversation", "user"),
    "write_report": ("assistants.radiology_report", "write_report"),
    "load_encoder": ("encoder.load", "load"),
    "load_generator": ("generator.load", "load"),
}


def __dir__() -> list[str]:
    """The names that a user of the package wants, also those that are not imported yet."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Import on first use, so that `medge --help` need not pay for ONNX Runtime."""
    if name not in _HOMES:
        raise AttributeError(f"module 'medge' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(f".runtime.{module}", __name__), attribute)
