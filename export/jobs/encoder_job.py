"""What `medge export medsiglip` is asked for; importing it loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...runtime.pictures.preprocess import DEFAULT_PROFILE
from ..pages.web_page import default_libraries
from ..to_coreml.options import PackageOptions


@dataclass(frozen=True)
class ExportJob:
    """What `medge export medsiglip` is asked for.

    Attributes:
        checkpoint, out: folders.
        formats: "onnx", "coreml", or both.
        recipe: "int8", or "vision=int8,text=int4"; for CoreML where that is the only format.
        coreml_recipe: the same for CoreML where both formats are made.
        package: how CoreML packages are called.
        merge: similar image tokens to merge in each block; None for what the recipe says (for CoreML, none).
        profile: the preprocessing profile.
        target: CPU target, "auto" for this machine; "web" puts the page into the bundle.
        web_libraries: folder with the page's npm packages.
        calibration: folder of images; pydicom's own files where None.
        labels: label file to bake in.
        with_text: include the text tower.
        images, labelled: what parity is measured on; the calibration images where None.
        force: replace an existing bundle.
    """

    checkpoint: Path
    out: Path
    recipe: str | None = None
    formats: tuple[str, ...] = ("onnx",)
    coreml_recipe: str | None = None
    package: PackageOptions = field(default_factory=PackageOptions)
    merge: int | None = None
    profile: str = DEFAULT_PROFILE
    target: str = "auto"
    web_libraries: Path = field(default_factory=default_libraries)
    calibration: Path | None = None
    labels: Path | None = None
    with_text: bool = True
    images: Path | None = None
    labelled: bool = False
    force: bool = False
