"""`medge parity`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from ...runtime.bundles.atomic import atomic_folder
from ...runtime.bundles.bundle import Bundle
from ...runtime.console.layouts import TABLES, check_ending
from ...runtime.console.options import BundleArgument, ForceOption, JsonOption, LabelsOption
from ...runtime.console.terminal import Warned, out, print_json, progress, warn
from ...runtime.encoder.labels import read_labels
from ..jobs.measure import Measuring, check, made_with, measure
from .gate_table import gate_table
from .losses import tell_losses
from .options import FAILED_GATE, LabelledOption, ParityImagesOption, ParityTextsOption, TaskOption, ThumbnailsOption
from .rows import rows_into


def parity(
    bundle: BundleArgument,
    reference: Annotated[
        Path,
        typer.Option(
            help="The checkpoint that the bundle was made from; of an encoder, also the reference.safetensors that an "
            "earlier run with --out has kept of it."
        ),
    ],
    images: ParityImagesOption = None,
    labelled: LabelledOption = False,
    labels: LabelsOption = None,
    texts: ParityTextsOption = None,
    task: TaskOption = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="Measured bundles of the same language model to draw beside it; repeat it."),
    ] = None,
    thumbnails: ThumbnailsOption = False,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for the reports; the bundle stays as it is.", show_default="into the bundle"
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            "--rows",
            help="Write a row for each image, prompt or question as it comes: .csv, .jsonl or .parquet. It names the images.",
        ),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a bundle against the full-precision PyTorch model and write the result into it, or into --out.

    An encoder is measured on images and texts, its scores with the prompts of --labels; a language model on texts, prompts
    with images, and questions with options. The report is a table here, and parity.json and parity.html. The exit
    code is 4 when a gate fails; of a bundle that passes with a warning, stderr says what was lost.

    Interrupted, the same command goes on where it was: what it had computed lies in a hidden file beside the bundle, or
    beside --out, until all is done.

    With --out, an encoder's run also keeps what the checkpoint gave, in reference.safetensors. Given as --reference, that file
    measures bundles of the same checkpoint, on the same images and labels, without it; stages and times are left out then.

    Example: medge parity bundle --reference medsiglip-mini --images films/ --out measured
    """
    opened = Bundle.open(bundle, allow_failed_parity=True)
    others: dict[str, dict[str, object]] = {
        "encoder": {"--texts": texts, "--task": task, "--beside": beside},
        "generator": {"--labelled": labelled, "--labels": labels, "--thumbnails": thumbnails},
    }
    if useless := [name for name, given in others[opened.manifest.kind].items() if given]:
        raise typer.BadParameter(f"{' and '.join(useless)}: not for this kind of bundle ({opened.manifest.kind})")
    told = Warned()
    asked = Measuring(
        reference, images, labelled, tuple(texts or ()), tuple(task or ()), labels, tuple(beside or ()), told,
        thumbnails=thumbnails,
        place=to,
    )  # fmt: skip
    if rows is not None:
        check_ending(rows, TABLES)
    check(opened, asked)  # what is wrong is said before torch is imported
    made = made_with(opened, asked)
    of_rows = [made, read_labels(labels) if labels else None]
    try:
        with (
            atomic_folder(to, force=force) if to else nullcontext() as folder,
            rows_into(rows, opened, of_rows, force=force) as row,
            progress() as advance,
        ):
            measured = measure(opened, replace(asked, progress=advance, out=folder, row=row), made)
    except KeyboardInterrupt:
        warn("stopped; the same command goes on where it was")
        raise typer.Exit(130) from None
    reports = list(measured.values())
    if as_json:
        facts = [
            {"format": form, "verdict": report.verdict, "figures": asdict(report.figures), **asdict(report.summary())}
            for form, report in measured.items()
        ]
        print_json(
            {"bundle": opened.manifest.name, "out": str(to or bundle), "results": facts, "failed": told.failed()}
        )
    else:
        for report in reports:
            out.print(gate_table(report))
        for page in sorted((to or bundle).rglob("parity.html")):
            out.print(f"report: {page}")
    tell_losses(bundle, reports)
    if any(report.status != "passed" for report in reports):
        raise typer.Exit(FAILED_GATE)
