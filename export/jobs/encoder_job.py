"""What `medge export medsiglip` is asked for, and whether it can be had; importing it loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...quant.recipes.litert import LiteRTRecipe, parse_litert_recipes
from ...quant.recipes.onnx import parse_onnx_recipes
from ...quant.recipes.recipe import Recipe
from ...runtime.bundles.atomic import refuse_existing
from ...runtime.device.cpu import Target, pick_target
from ...runtime.encoder.labels import Prompts, read_labels
from ...runtime.errors import MissingExtraError, RecipeError
from ...runtime.pictures.preprocess import get_profile
from ..families.gemma3 import refuse_language_model
from ..pages.web_page import check_web, default_libraries
from ..source.checkpoint import Checkpoint
from ..source.given import check_images, check_labelled
from ..to_coreml.options import PackageOptions, parse_packages


def _parse_litert(text: str | None, _options: None, merge: int | None) -> Mapping[str, LiteRTRecipe]:
    """The user's recipe (int8 where None) to {tower: recipe}.

    Raises:
        RecipeError: one that does not exist, or a wish to merge patches.
        MissingExtraError: litert-torch is not installed.
    """
    if merge:
        raise RecipeError("a LiteRT file merges no patches: leave --merge out, or export it as ONNX")
    recipes = parse_litert_recipes(text or "int8")
    if find_spec("litert_torch") is None:
        raise MissingExtraError("litert_torch", "litert-export")
    return recipes


# {format: the user's recipe (None for the usual one), the format's options and the merge to {tower: recipe}}
PARSERS: dict[str, Callable[[str | None, Any, int | None], Mapping[str, Recipe]]] = {
    "onnx": lambda text, _options, _merge: parse_onnx_recipes(text or "int8"), "coreml": parse_packages,
    "litert": _parse_litert,
}  # fmt: skip


@dataclass(frozen=True)
class ExportJob:
    """What `medge export medsiglip` is asked for.

    Attributes:
        checkpoint, out: folders.
        formats: "onnx", "coreml", "litert", or several.
        recipe: "int8", or "vision=int8,text=int4"; for ONNX, or for the first format where that is not among them.
        coreml_recipe, litert_recipe: the same for such a format beside others.
        package: how CoreML packages are called.
        merge: similar image tokens to merge in each block; None for what the recipe says (for CoreML, none).
        maps: give the ONNX vision tower the output from which `Encoder.map` shows what speaks for a label.
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
    litert_recipe: str | None = None
    package: PackageOptions = field(default_factory=PackageOptions)
    merge: int | None = None
    maps: bool = False
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
        return {"coreml": self.coreml_recipe, "litert": self.litert_recipe}.get(form) or (
            self.recipe if form == main else None
        )

    def options_of(self, form: str) -> Any:
        """A format's own options."""
        return {"coreml": self.package}.get(form)


@dataclass(frozen=True)
class ExportPlan:
    """A job, read: what to make in which format, for which CPU and with which labels."""

    recipes: dict[str, Mapping[str, Recipe]]  # {format: {tower: recipe}}
    target: Target
    target_reason: str
    prompts: Prompts | None

    @property
    def towers(self) -> list[str]:
        return list(dict.fromkeys(tower for made in self.recipes.values() for tower in made))


def read_job(job: ExportJob) -> ExportPlan:
    """Check everything that can be checked before work begins, without torch.

    Raises:
        RecipeError, LabelError: what does not exist or does not fit.
        MissingExtraError: a format needs a package that is not installed.
        StorageError: a bundle stands there already.
        CheckpointError, ImageError: the checkpoint is not whole, or there are no images where they should be.
    """
    recipes: dict[str, Mapping[str, Recipe]] = {}
    for name in job.formats:
        if name not in PARSERS:
            raise RecipeError(f"there is no format {name!r}; choose from {', '.join(PARSERS)}, or several with commas")
        recipes[name] = PARSERS[name](job.recipe_of(name), job.options_of(name), job.merge)
    if not job.with_text:
        if job.labels is None:
            raise RecipeError("without its text tower a bundle can only classify: bake labels in with --labels FILE")
        recipes = {name: {t: r for t, r in made.items() if t != "text"} for name, made in recipes.items()}
    if job.maps and "onnx" not in job.formats:
        raise RecipeError(
            "--maps is an output of the ONNX vision tower: add it with --format onnx,coreml or onnx,litert"
        )
    if job.profile is not None:
        get_profile(job.profile)
    target, reason = pick_target(job.target)
    prompts = read_labels(job.labels) if job.labels else None
    if job.target == "web":
        check_web(job.web_libraries, has_labels=bool(prompts))
    refuse_existing(job.out, force=job.force)
    refuse_language_model(Checkpoint.open(job.checkpoint))
    check_images(folder for folder in (job.calibration, job.images) if folder)
    if job.labelled:
        check_labelled(job.images, prompts or ())
    return ExportPlan(recipes, target, reason, prompts)
