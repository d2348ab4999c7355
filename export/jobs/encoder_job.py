"""What `medge export medsiglip` is asked for; importing it loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        profile: the preprocessing profile; None for what the family's publishers usually use.
        target: CPU target, "auto" for this machine; "web" puts the page into the bundle.
        web_libraries: folder with the page's npm packages.
        calibration: folder of images; pydicom's own files where None.
        labels: label file to bake in.
        with_text: include the text tower.
        images, labelled: what parity is measured on; the calibration images where None.
        thumbnails: put small copies of single images into the page.
        force: replace an existing bundle.
    """

    checkpoint: Path
    out: Path
    recipe: str | None = None
    formats: tuple[str, ...] = ("onnx",)
    coreml_recipe: str | None = None
    package: PackageOptions = field(default_factory=PackageOptions)
    merge: int | None = None
    profile: str | None = None
    target: str = "auto"
    web_libraries: Path = field(default_factory=default_libraries)
    calibration: Path | None = None
    labels: Path | None = None
    with_text: bool = True
    images: Path | None = None
    labelled: bool = False
    thumbnails: bool = False
    force: bool = False

    def recipe_of(self, form: str) -> str | None:
        """What the user says of a format; None for the format's usual recipe."""
        main = "onnx" if "onnx" in self.formats else self.formats[0]
        return {"coreml": self.coreml_recipe}.get(form) or (self.recipe if form == main else None)

    def options_of(self, form: str) -> Any:
        """A format's own options."""
        return {"coreml": self.package}.get(form)
