"""LiteRT as a format of encoder bundles: one .tflite file a tower, with the metadata that LiteRT's tools read.

What reads and writes such files needs the extra, so that it is imported when one is made or looked into.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ...quant.recipes.litert import LITERT_RECIPES, LiteRTRecipe
from ...runtime.bundles.bundle import BundleWriter
from ...runtime.bundles.facts import TowerFacts, file_role
from ...runtime.encoder.litert import LiteRTEncoder
from ...runtime.golden.encoder import write_golden
from ..format import Format, Making

if TYPE_CHECKING:
    from ..families.full_precision import FullPrecision
    from .stages import LiteRTStages

FOLDER = "litert"


def _make(making: Making, recipes: Mapping[str, LiteRTRecipe]) -> dict[str, TowerFacts]:
    from .files import make_files

    return make_files(making, recipes, FOLDER)


def _stages(encoder: LiteRTEncoder, full: FullPrecision) -> LiteRTStages:
    from .stages import LiteRTStages

    return LiteRTStages(encoder, full)


def _engine(_: LiteRTEncoder) -> dict[str, str]:
    """What runs a bundle's LiteRT files here."""
    return {"engine": f"LiteRT {version('ai-edge-litert')}"}


def _complete(writer: BundleWriter, encoder: Any) -> None:
    write_golden(encoder, writer.add(f"{FOLDER}/golden.safetensors", file_role(encoder.format, "golden")))


FORMAT = Format("litert", LITERT_RECIPES, _make, LiteRTEncoder, _engine, _stages, _complete, folder=FOLDER)
