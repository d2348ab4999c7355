"""`medge parity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...runtime.bundles.bundle import Bundle
from ...runtime.bundles.manifest import GeneratorFacts
from ...runtime.bundles.parity_report import ParityReport
from ...runtime.commands.console import out, print_json, progress, warn
from ...runtime.commands.options import BundleArgument, JsonOption, LabelsOption
from ...runtime.encoder.labels import read_labels
from ..jobs.encoder import measure_bundle
from ..source.samples import builtin_samples, read_samples
from .options import FAILED_GATE, LabelledOption, ParityImagesOption, ParityTextsOption, TaskOption


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
    as_json: JsonOption = False,
) -> None:
    """Measure a bundle against the full-precision PyTorch model and write the result into it.

    An encoder is measured on images and texts, its scores with the prompts of --labels; a language model on texts, prompts
    with images, and questions with options. The report is a table here, parity.json and parity.html in the bundle. The exit
    code is 4 when a gate fails.

    Example: medge parity bundle --reference medsiglip-448 --images held-back/ --labelled
    """
    opened = Bundle.open(bundle, allow_failed_parity=True)
    if isinstance(opened.manifest.model, GeneratorFacts):
        from ..jobs.generator import material_of, measure_generator_bundle

        material = material_of(texts or (), images, task or (), sees=opened.manifest.model.image_tokens > 0)
        with progress() as advance:
            _, report = measure_generator_bundle(opened, reference, material, beside=beside or (), progress=advance)
        reports: tuple[ParityReport, ...] = (report,)
    else:
        samples = read_samples(images, labelled=labelled) if images else builtin_samples()
        for message in samples.skipped if images else ():
            warn(f"skipped: {message}")
        with progress() as advance:
            _, reports = measure_bundle(
                opened, reference, samples, prompts=read_labels(labels) if labels else None, progress=advance
            )
    if as_json:
        facts = [{"status": report.status, "figures": report.figures, **report.summary()} for report in reports]
        print_json(facts[0] if len(facts) == 1 else facts)
    else:
        for report in reports:
            out.print(report.table())
        for entry in Bundle.open(bundle, verify=False, allow_failed_parity=True).manifest.files:
            if entry.role.endswith("parity.page"):
                out.print(f"report: {bundle / entry.path}", markup=False, highlight=False)
    if any(report.status != "passed" for report in reports):
        raise typer.Exit(FAILED_GATE)
