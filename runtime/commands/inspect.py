"""`medge inspect`."""

from __future__ import annotations

import dataclasses

from .console import out, print_json
from .options import BundleArgument, JsonOption


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Say what is in a bundle: model, recipes and what they decided, files, labels, parity, licence.

    Example: medge inspect bundle
    """
    from rich.table import Table
    from rich.text import Text

    from ..bundles.manifest import EncoderFacts, Manifest

    manifest = Manifest.read(bundle)
    if as_json:
        print_json(dataclasses.asdict(manifest))
        return
    facts = Table(title=manifest.name, show_header=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    model = manifest.model
    facts.add_row(
        "model", f"{model.architecture}, {model.parameters / 1e6:.1f} M parameters, from {manifest.source['name']}"
    )
    if model.image_size:
        facts.add_row("input", f"{model.image_size} x {model.image_size} pixels, profile {manifest.profile}")
    if isinstance(model, EncoderFacts):
        facts.add_row(
            "embedding",
            f"{model.embedding_size} numbers; logit = {model.logit_scale:.4g} x cosine {model.logit_bias:+.4g}",
        )
    else:
        facts.add_row("image", f"{model.image_tokens} tokens" if model.image_tokens else "none, it reads text only")
        facts.add_row(
            "context", f"trained for {model.context_length:,} tokens; {model.layers} layers, window {model.window}"
        )
    facts.add_row("target", f"{manifest.target} ({manifest.source['target_reason']})")
    for tower, info in manifest.towers.items():
        decided = "; ".join(f"{key}: {value}" for key, value in info.decisions.items())
        opset = f", opset {info.opset}" if info.opset else ""
        facts.add_row(tower, Text(f"{info.recipe}{opset}" + (f" ({decided})" if decided else "")))
    for tower, info in manifest.packages.items():
        decided = "; ".join(f"{key}: {value}" for key, value in info.decisions.items())
        facts.add_row(f"CoreML, {tower}", Text(f"{info.recipe} ({decided})"))
    if isinstance(model, EncoderFacts):
        facts.add_row("labels", Text(", ".join(manifest.labels) or "none baked in"))
    for row, made, found in (
        ("parity", manifest.towers, manifest.parity),
        ("CoreML, parity", manifest.packages, manifest.packages_parity),
    ):
        if made:
            parity = found or {}
            facts.add_row(row, f"{parity.get('status', 'not measured')} on {parity.get('images', 0)} images")
    facts.add_row("licence", manifest.licence)
    out.print(facts)
    files = Table()
    for column in ("file", "role", "bytes", "sha256"):
        files.add_column(column, justify="right" if column == "bytes" else "left")
    for entry in manifest.files:
        files.add_row(entry.path, entry.role, f"{entry.bytes:,}", entry.sha256[:16])
    out.print(files)
