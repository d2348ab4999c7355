"""`medge export medsiglip`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...quant.recipe import RECIPES
from ...runtime.console import ForceOption, JsonOption, err, out, print_json, progress, warn
from ...runtime.cpu import TARGETS
from ...runtime.preprocess import DEFAULT_PROFILE, PROFILES
from ..build import ExportJob, export_medsiglip

app = typer.Typer(no_args_is_help=True, help="Checkpoint to a quantized, measured bundle.")

FAILED_GATE = 4


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
    if as_json:
        print_json({"bundle": str(to), "bytes": bundle.size(), "parity": report.summary()})
    else:
        out.print(report.table())
        out.print(f"{to}: {bundle.size() / 1e6:.1f} MB, report in {to / 'parity.html'}", markup=False, highlight=False)
    if report.status != "passed":
        warn(f"{to} failed its parity gate: it was written, but the runtime will refuse it")
        err.file.flush()
        raise typer.Exit(FAILED_GATE)
