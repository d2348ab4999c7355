"""`medge inspect`."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..console.options import BundleArgument, JsonOption
from ..console.terminal import out, print_json


def said(value: Any) -> str:
    """What a recipe decided, as a person reads it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {said(part)}" for key, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(said, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Say what is in a bundle: model, recipes and what they decided, files, labels, parity, licence.

    Example: medge inspect bundle
    """
    from rich.table import Table
    from rich.text import Text

    from ..bundles.manifest import Manifest
    from ..kinds import KINDS

    manifest = Manifest.read(bundle)
    if as_json:
        print_json(dataclasses.asdict(manifest))
        return
    facts = Table(title=manifest.name, show_header=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    model = manifest.model
    facts.add_row("model", f"{model.family}, {model.parameters / 1e6:.1f} M parameters, from {manifest.source['name']}")
    for row, text in KINDS[manifest.kind].describe(manifest):
        facts.add_row(row, Text(text))
    facts.add_row("target", f"{manifest.target} ({manifest.source['target_reason']})")
    for form, artefact in manifest.artefacts.items():
        for part, tower in artefact.towers.items():
            decided = "; ".join(f"{key.replace('_', ' ')}: {said(value)}" for key, value in tower.decisions.items())
            facts.add_row(f"{form}, {part}", Text(f"{tower.recipe}" + (f" ({decided})" if decided else "")))
        parity = artefact.parity or {}
        facts.add_row(f"{form}, parity", f"{parity.get('status', 'not measured')} on {parity.get('images', 0)} images")
        for warning in parity.get("warnings", ()):
            facts.add_row(f"{form}, warning", Text(warning))
    if manifest.teacher_parity is not None:
        facts.add_row("parity with its teacher", str(manifest.teacher_parity.get("status", "not measured")))
    facts.add_row("licence", manifest.licence)
    out.print(facts)
    files = Table()
    for column in ("file", "role", "bytes", "sha256"):
        files.add_column(column, justify="right" if column == "bytes" else "left", overflow="fold")
    for entry in manifest.files:
        files.add_row(Text(entry.path), entry.role, f"{entry.bytes:,}", entry.sha256[:16])
    out.print(files)
