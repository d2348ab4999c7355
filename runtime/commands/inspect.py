"""`medge inspect`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from ..console.options import BundleArgument, JsonOption
from ..console.terminal import out, print_document, print_json


def said(value: Any) -> str:
    """What a recipe decided, as a person reads it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {said(part)}" for key, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(said, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def inspect(
    bundle: BundleArgument,
    as_json: JsonOption = False,
    sbom: Annotated[
        bool, typer.Option("--sbom", help="Print a software bill of materials instead: CycloneDX 1.6, JSON.")
    ] = False,
) -> None:
    """Say what is in a bundle: model, recipes and what they decided, files, labels, parity, licence.

    Example: medge inspect bundle
    """
    from rich.table import Table

    from ..bundles.manifest import Manifest
    from ..bundles.parity_report import NOT_HELD_BACK
    from ..decisions.calibration import ROLE, ScoreCalibration
    from ..kinds import KINDS

    manifest = Manifest.read(bundle)
    if sbom:
        from ..bundles.sbom import bill_of_materials

        print_document(bill_of_materials(manifest))
        return
    if as_json:
        print_json({"bundle": manifest.name, **dataclasses.asdict(manifest)})
        return
    facts = Table(title=manifest.name, show_header=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    model = manifest.model
    facts.add_row("model", f"{model.family}, {model.parameters / 1e6:.1f} M parameters, from {manifest.source.name}")
    for row, text in KINDS[manifest.kind].describe(manifest):
        facts.add_row(row, text)
    facts.add_row("target", f"{manifest.target} ({manifest.source.target_reason})")
    for form, artefact in manifest.artefacts.items():
        for part, tower in artefact.towers.items():
            decided = "; ".join(f"{key.replace('_', ' ')}: {said(value)}" for key, value in tower.decisions.items())
            facts.add_row(f"{form}, {part}", f"{tower.recipe}" + (f" ({decided})" if decided else ""))
        parity = artefact.parity
        told = "not measured"
        if parity:
            told = f"{parity.status} on {parity.images} images{'' if parity.held_back else ', ' + NOT_HELD_BACK}"
        facts.add_row(f"{form}, parity", told)
        for warning in parity.warnings if parity else ():
            facts.add_row(f"{form}, warning", warning)
    if manifest.teacher_parity is not None:
        facts.add_row("parity with its teacher", manifest.teacher_parity.status)
    if (entry := manifest.file(ROLE)) is not None:
        scores = ScoreCalibration.load(bundle / entry.path).facts
        facts.add_row("scores", f"calibrated on {scores.images} images ({scores.source})")
    elif manifest.kind == "encoder":
        facts.add_row("scores", "not calibrated")
    facts.add_row("licence", manifest.licence)
    out.print(facts)
    files = Table()
    for column in ("file", "role", "bytes", "sha256"):
        files.add_column(column, justify="right" if column == "bytes" else "left", overflow="fold")
    for entry in manifest.files:
        files.add_row(entry.path, entry.role, f"{entry.bytes:,}", entry.sha256[:16])
    out.print(files)
