"""`medge export medsiglip|medgemma`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...quant.recipes.coreml import COREML_RECIPES
from ...quant.recipes.gguf import GGUF_RECIPES, PROJECTOR_RECIPES
from ...quant.recipes.litert import LITERT_RECIPES
from ...quant.recipes.onnx import ONNX_RECIPES
from ...runtime.bundles.parity_report import NOT_HELD_BACK
from ...runtime.console.options import ForceOption, JsonOption, LabelsOption
from ...runtime.console.terminal import Warned, out, print_json, progress, warn
from ...runtime.errors import RecipeError
from ..jobs import encoder_job, generator_job
from ..jobs.encoder_job import ExportJob
from ..jobs.generator_job import GeneratorJob
from ..jobs.several import check_each
from ..pages.web_page import default_libraries
from ..to_coreml.options import PackageOptions
from ..to_gguf.scripts import SCRIPTS
from .gate_table import gate_table
from .losses import tell_failed, tell_losses
from .options import (
    CORPUS,
    BundleOption,
    CheckpointOption,
    LabelledOption,
    MergeOption,
    ParityImagesOption,
    ParityTextsOption,
    SkipParityOption,
    TargetOption,
    TargetSizeOption,
    TaskOption,
    ThumbnailsOption,
    UsualProfileOption,
)

if TYPE_CHECKING:
    from ...runtime.bundles.bundle import Bundle
    from ...runtime.bundles.parity_report import ParityReport

app = typer.Typer(no_args_is_help=True, help="Checkpoint to a quantized, measured bundle.")


def parse_size(text: str) -> int:
    """ "2.4GB", "800MB" or a number of bytes, to bytes.

    Raises:
        RecipeError: none of these.
    """
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
    found = re.fullmatch(r"\s*([\d.]+)\s*([KMG]?B?)\s*", text.upper())
    try:
        if found is None:
            raise ValueError
        return int(float(found[1]) * units[found[2]])
    except (ValueError, KeyError):
        raise RecipeError(f"{text!r} is no size; say 2.4GB, 800MB or a number of bytes") from None


def parse_input(text: str) -> bool:
    """ "image" or "tensor", to whether it is an image.

    Raises:
        RecipeError: neither.
    """
    if text not in ("image", "tensor"):
        raise RecipeError(f"there is no CoreML input {text!r}; choose image or tensor")
    return text == "image"


def parse_batches(text: str) -> tuple[int, ...]:
    """ "1,4,16" to sizes.

    Raises:
        RecipeError: no such list.
    """
    sizes = text.split(",")
    if not all(size.strip().isdigit() and int(size) for size in sizes):
        raise RecipeError(f"{text!r} is no list of batch sizes; say 1, or 1,4,16")
    return tuple(sorted({int(size) for size in sizes}))


@app.callback()
def export() -> None:
    """Checkpoint to a quantized, measured bundle."""


@app.command()
def medsiglip(
    checkpoint: CheckpointOption,
    to: BundleOption,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(ONNX_RECIPES)}; or vision=NAME,text=NAME. Repeat it for several bundles.",
            show_default="int8; w8 for CoreML alone",
        ),
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="onnx, coreml, litert, or several: onnx,litert.")] = "onnx",
    coreml_recipe: Annotated[
        str | None, typer.Option(help=f"For CoreML beside ONNX: {', '.join(COREML_RECIPES)}.", show_default="w8")
    ] = None,
    litert_recipe: Annotated[
        str | None, typer.Option(help=f"For LiteRT beside ONNX: {', '.join(LITERT_RECIPES)}.", show_default="int8")
    ] = None,
    ios: Annotated[int, typer.Option(help="Oldest system for CoreML: 17 (macOS 14) or 18 (macOS 15).")] = 18,
    coreml_input: Annotated[
        str, typer.Option(help="What the CoreML vision tower takes: image (a pixel buffer) or tensor.")
    ] = "image",
    batches: Annotated[
        str, typer.Option(help="Batch sizes that the CoreML tensors may have, e.g. 1,4,16; images come singly.")
    ] = "1",
    merge: MergeOption = None,
    maps: Annotated[
        bool, typer.Option("--maps", help="An output more of the ONNX vision tower, for 'medge classify --map'.")
    ] = False,
    target_size: TargetSizeOption = None,
    profile: UsualProfileOption = None,
    target: TargetOption = "auto",
    web_libraries: Annotated[
        Path | None, typer.Option(help="Where the page's npm packages lie.", show_default="~/.cache/medge/web")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of images.", show_default="pydicom's own files")
    ] = None,
    labels: LabelsOption = None,
    without_text: Annotated[bool, typer.Option("--without-text", help="Leave the text tower out.")] = False,
    images: ParityImagesOption = None,
    labelled: LabelledOption = False,
    thumbnails: ThumbnailsOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a MedSigLIP or CLIP checkpoint into a bundle, and measure it.

    Any family of image-text encoders that medge knows: config.json says which it is.

    The labels of --labels are baked in. Parity is measured on the calibration images where there are no --images. The
    bundle is written even when a parity gate fails; it is then marked so, the runtime refuses it, and the exit code is 4.

    Example: medge export medsiglip --checkpoint medsiglip-mini --out bundle --recipe int8 --labels labels.txt

    With several recipes the towers are exported once: --out bundles --recipe int8 --recipe int4 makes bundles/int8 and
    bundles/int4.

    For Apple's systems: --format coreml --recipe palette4 --ios 18, measured here without a Mac.

    For Android and embedded Linux: --format litert --recipe int8, a .tflite file for each tower.
    """
    package = PackageOptions(
        ios, parse_input(coreml_input), parse_batches(batches), parse_size(target_size) if target_size else None
    )
    job = ExportJob(
        checkpoint=checkpoint, out=to, recipe=recipe[0] if recipe else None, formats=tuple(formats.split(",")),
        coreml_recipe=coreml_recipe, litert_recipe=litert_recipe, package=package, merge=merge, maps=maps,
        profile=profile, target=target,
        web_libraries=web_libraries or default_libraries(),
        calibration=calibration, labels=labels, with_text=not without_text, images=images, labelled=labelled,
        thumbnails=thumbnails, force=force,
    )  # fmt: skip
    several = len(recipe or ()) > 1
    check_each(job, recipe or (), encoder_job.read_job)  # what is wrong is said before torch is imported
    from ..jobs.encoder import export_medsiglip, export_medsiglip_recipes

    told = Warned()
    with progress() as advance:
        if several:
            made = list(export_medsiglip_recipes(job, recipe or (), advance, warn=told))
        else:
            made = [export_medsiglip(job, advance, warn=told)]
    _tell([(bundle, list(reports.values())) for bundle, reports in made], told, as_json)


@app.command()
def medgemma(
    checkpoint: CheckpointOption,
    to: BundleOption,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(GGUF_RECIPES)}; or language=NAME,projector=NAME: {', '.join(PROJECTOR_RECIPES)} for "
            f"llama.cpp, {', '.join(ONNX_RECIPES)} for a vision tower in ONNX. Repeat it for several bundles.",
            show_default="q4_k_m",
        ),
    ] = None,
    merge: MergeOption = None,
    target: TargetOption = "auto",
    calibration: Annotated[
        list[Path] | None,
        typer.Option(help=f"{CORPUS} Repeat it.", show_default="medge's own"),
    ] = None,
    importance: Annotated[Path | None, typer.Option(help="A matrix that 'medge calibrate' made.")] = None,
    without_importance: Annotated[
        bool,
        typer.Option(
            "--without-importance", help="Quantize with neither matrix nor compensation: faster to make, less exact."
        ),
    ] = False,
    target_size: TargetSizeOption = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            help=f"Scripts whose tokens stay, e.g. latin, or latin,arabic; Latin always does. Of {', '.join(SCRIPTS)}.",
            show_default="all tokens",
        ),
    ] = None,
    texts: ParityTextsOption = None,
    images: ParityImagesOption = None,
    task: TaskOption = None,
    skip_parity: SkipParityOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a MedGemma (or other Gemma 3) checkpoint into a GGUF bundle, and measure it.

    Quantized types are weighed by an importance matrix that is gathered on the calibration data, images included, and rounding
    errors are then compensated on the same data.
    The bundle is written even when a parity gate fails; it is then marked so, the runtime refuses it, and the exit
    code is 4.

    Example: medge export medgemma --checkpoint medgemma-mini --out reader --recipe q8_0

    With a vision tower in ONNX, similar patches merged, an image takes less time, in this runtime only:
    --recipe language=q4_k_m,projector=fast

    A third of Gemma's 262,000 tokens is of other scripts than Latin: --vocabulary latin leaves them out, and the file is the
    smaller. Any text can still be read and written, byte by byte where its tokens are gone.

    With several recipes the checkpoint is converted, calibrated and computed in PyTorch once: --out bundles
    --recipe q4_k_m --recipe q8_0 makes bundles/q4_k_m and bundles/q8_0.
    """
    recipes = recipe or ["q4_k_m"]
    job = GeneratorJob(
        checkpoint, to, recipes[0], merge, target, tuple(calibration or ()), importance, without_importance,
        parse_size(target_size) if target_size else None, tuple(texts or ()), images, tuple(task or ()), skip_parity, force,
        vocabulary,
    )  # fmt: skip
    several = len(recipes) > 1
    check_each(job, recipes, generator_job.read_job)
    from ..jobs.generator import export_medgemma, export_medgemma_recipes

    told = Warned()
    with progress() as advance:
        if several:
            made = list(export_medgemma_recipes(job, recipes, advance, warn=told))
        else:
            made = [export_medgemma(job, advance, warn=told)]
    _tell([(bundle, [report] if report is not None else []) for bundle, report in made], told, as_json)


def _tell(made: Sequence[tuple[Bundle, Sequence[ParityReport]]], told: Warned, as_json: bool) -> None:
    """What was made, and whether it passed."""
    if as_json:
        facts = [
            {
                "bundle": bundle.manifest.name,
                "out": str(bundle.folder),
                "bytes": bundle.size(),
                "parity": {
                    form: asdict(artefact.parity) if artefact.parity else None
                    for form, artefact in bundle.manifest.artefacts.items()
                },
            }
            for bundle, _ in made
        ]
        print_json({"results": facts, "failed": told.failed()})
    for bundle, reports in made if not as_json else ():
        for report in reports:
            out.print(gate_table(report))
        pages = sorted(entry.path for entry in bundle.manifest.files if entry.role.endswith("parity.page"))
        where = f"report in {' and '.join(str(bundle.folder / page) for page in pages)}" if pages else "not measured"
        out.print(f"{bundle.folder}: {bundle.size() / 1e6:.1f} MB, {where}")
    for bundle, reports in made:
        if any(not report.held_back for report in reports):
            warn(f"{bundle.folder}: {NOT_HELD_BACK}; give others than the calibration's with --images")
        tell_losses(bundle.folder, reports)
    failed = [bundle.folder for bundle, reports in made if any(report.status != "passed" for report in reports)]
    tell_failed(failed)
