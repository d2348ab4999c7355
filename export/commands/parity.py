"""`medge parity`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ...runtime.bundles.bundle import Bundle
from ...runtime.console.options import BundleArgument, JsonOption, LabelsOption
from ...runtime.console.terminal import out, print_json, progress, warn
from ..jobs.measure import Measuring, check, measure
from .losses import tell_losses
from .options import FAILED_GATE, LabelledOption, ParityImagesOption, ParityTextsOption, TaskOption, ThumbnailsOption


def parity(
    bundle: BundleArgument,
    reference: Annotated[Path, typer.Option(help="The checkpoint that the bundle was made from.")],
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
    as_json: JsonOption = False,
) -> None:
    """Measure a bundle against the full-precision PyTorch model and write the result into it.

    An encoder is measured on images and texts, its scores with the prompts of --labels; a language model on texts, prompts
    with images, and questions with options. The report is a table here, parity.json and parity.html in the bundle. The exit
    code is 4 when a gate fails; of a bundle that passes with a warning, stderr says what was lost.

    Example: medge parity bundle --reference medsiglip-448 --images held-back/ --labelled
    """
    opened = Bundle.open(bundle, allow_failed_parity=True)
    others: dict[str, dict[str, object]] = {
        "encoder": {"--texts": texts, "--task": task, "--beside": beside},
        "generator": {"--labelled": labelled, "--labels": labels, "--thumbnails": thumbnails},
    }
    if useless := [name for name, given in others[opened.manifest.kind].items() if given]:
        raise typer.BadParameter(f"{' and '.join(useless)}: not for this kind of bundle ({opened.manifest.kind})")
    with progress() as advance:
        asked = Measuring(
            reference,
            images,
            labelled,
            tuple(texts or ()),
            tuple(task or ()),
            labels,
            tuple(beside or ()),
            warn,
            advance,
            thumbnails,
        )
        check(opened, asked)  # what is wrong is said before torch is imported
        measured = measure(opened, asked)
        reports = list(measured.values())
    if as_json:
        facts = [
            {"format": form, "verdict": report.verdict, "figures": asdict(report.figures), **asdict(report.summary())}
            for form, report in measured.items()
        ]
        print_json({"bundle": opened.manifest.name, "results": facts})
    else:
        for report in reports:
            out.print(report.table())
        for entry in Bundle.open(bundle, verify=False, allow_failed_parity=True).manifest.files:
            if entry.role.endswith("parity.page"):
                out.print(f"report: {bundle / entry.path}")
    tell_losses(bundle, reports)
    if any(report.status != "passed" for report in reports):
        raise typer.Exit(FAILED_GATE)
