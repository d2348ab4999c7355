"""`medge export medsiglip|medgemma`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ...quant.recipe import RECIPES
from ...quant.recipe_gguf import GGUF_RECIPES, PROJECTOR_RECIPES
from ...runtime.bundle import Bundle
from ...runtime.console import ForceOption, JsonOption, err, out, print_json, progress, warn
from ...runtime.cpu import TARGETS
from ...runtime.errors import RecipeError
from ...runtime.preprocess import DEFAULT_PROFILE, PROFILES
from ...runtime.report import ParityReport
from ..build import ExportJob, export_medsiglip
from ..generator_job import GeneratorJob

app = typer.Typer(no_args_is_help=True, help="Checkpoint to a quantized, measured bundle.")

FAILED_GATE = 4


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


@app.callback()
def export() -> None:
    """Checkpoint to a quantized, measured bundle."""


@app.command()
def medsiglip(
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint folder (config.json and safetensors).")],
    to: Annotated[Path, typer.Option("--out", help="The bundle folder to make.")],
    recipe: Annotated[str, typer.Option(help=f"{', '.join(RECIPES)}; or vision=NAME,text=NAME.")] = "int8",
    profile: Annotated[str, typer.Option(help=f"Preprocessing: {', '.join(PROFILES)}.")] = DEFAULT_PROFILE,
    target: Annotated[str, typer.Option(help=f"CPU: auto, {', '.join(TARGETS)}.")] = "auto",
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of images.", show_default="pydicom's own files")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Label file to bake in: lines, or JSON {label: \\[prompts]}.")
    ] = None,
    without_text: Annotated[bool, typer.Option("--without-text", help="Leave the text tower out.")] = False,
    images: Annotated[
        Path | None, typer.Option(help="Measure parity on these.", show_default="calibration images")
    ] = None,
    labelled: Annotated[bool, typer.Option("--labelled", help="--images has one sub-folder per label.")] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a MedSigLIP checkpoint into a bundle, and measure it.

    The bundle is written even when a parity gate fails; it is then marked so, the runtime refuses it, and the exit
    code is 4.

    Example: medge export medsiglip --checkpoint medsiglip-448 --out bundle --recipe int8 --labels labels.txt
    """
    job = ExportJob(
        checkpoint, to, recipe, profile, target, calibration, labels, not without_text, images, labelled, force
    )
    with progress() as advance:
        bundle, report = export_medsiglip(job, advance)
    _tell(bundle, report, to, as_json)


@app.command()
def medgemma(
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint folder (config.json and safetensors).")],
    to: Annotated[Path, typer.Option("--out", help="The bundle folder to make.")],
    recipe: Annotated[
        str, typer.Option(help=f"{', '.join(GGUF_RECIPES)}; or language=NAME,projector={'|'.join(PROJECTOR_RECIPES)}.")
    ] = "q4_k_m",
    calibration: Annotated[
        list[Path] | None,
        typer.Option(
            help="Texts (.txt, .md, .jsonl), images, or folders of them; repeat it.", show_default="medge's own"
        ),
    ] = None,
    importance: Annotated[Path | None, typer.Option(help="A matrix that 'medge calibrate' made.")] = None,
    without_importance: Annotated[
        bool, typer.Option("--without-importance", help="Quantize without a matrix: faster to make, less exact.")
    ] = False,
    target_size: Annotated[
        str | None, typer.Option(help="Size of the language model's file, e.g. 2.4GB; types are then chosen by layer.")
    ] = None,
    texts: Annotated[
        list[Path] | None, typer.Option(help="Measure parity on these texts; repeat it.", show_default="medge's own")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Measure parity on these images.", show_default="pydicom's own")
    ] = None,
    task: Annotated[
        list[Path] | None,
        typer.Option(help='Questions, JSON lines: {"question", "options", "answer", "image"}; repeat it.'),
    ] = None,
    skip_parity: Annotated[
        bool, typer.Option("--skip-parity", help="Don't measure; the bundle then needs --allow-failed-parity.")
    ] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a MedGemma (or other Gemma 3) checkpoint into a GGUF bundle, and measure it.

    Quantized types are weighed by an importance matrix that is gathered on the calibration data, images included.
    The bundle is written even when a parity gate fails; it is then marked so, the runtime refuses it, and the exit
    code is 4.

    Example: medge export medgemma --checkpoint medgemma-4b-it --out bundle --recipe q4_k_m --calibration reports/
    """
    job = GeneratorJob(
        checkpoint, to, recipe, tuple(calibration or ()), importance, without_importance,
        parse_size(target_size) if target_size else None, tuple(texts or ()), images, tuple(task or ()), skip_parity, force,
    )  # fmt: skip
    from ..build_generator import export_medgemma

    with progress() as advance:
        bundle, report = export_medgemma(job, advance)
    _tell(bundle, report, to, as_json)


def _tell(bundle: Bundle, report: ParityReport | None, to: Path, as_json: bool) -> None:
    if as_json:
        parity = report.summary() if report is not None else None
        print_json({"bundle": str(to), "bytes": bundle.size(), "parity": parity})
    else:
        if report is not None:
            out.print(report.table())
        where = f"report in {to / 'parity.html'}" if report is not None else "not measured"
        out.print(f"{to}: {bundle.size() / 1e6:.1f} MB, {where}", markup=False, highlight=False)
    if report is not None and report.status != "passed":
        warn(f"{to} failed its parity gate: it was written, but the runtime will refuse it")
        err.file.flush()
        raise typer.Exit(FAILED_GATE)
