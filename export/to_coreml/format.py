"""CoreML as a format of encoder bundles: a package a tower, and a Swift package beside them."""

from __future__ import annotations

from ...quant.recipes.coreml import COREML_RECIPES
from ..format import Format
from .packages import FOLDER, make_packages
from .session import PackageEncoder
from .stages import PackageStages, engine
from .swift_package import write_swift

FORMAT = Format(
    "coreml", COREML_RECIPES, make_packages, PackageEncoder, engine, PackageStages, write_swift, folder=FOLDER
)
