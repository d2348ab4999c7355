"""`medge verify`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from ..console.options import BundleArgument, DeviceOption, JsonOption, TrustOption
from ..console.terminal import out, print_json, warn


def verify(
    bundle: BundleArgument, device: DeviceOption = "auto", trust: TrustOption = None, as_json: JsonOption = False
) -> None:
    """Check every hash, and with --trust the signature; open every file, and replay the golden results on this very device.

    Works on a bundle whose parity gate failed, too: it asks whether the copy is whole and this device computes right.

    Example: medge verify bundle
    """
    from rich.table import Table
    from rich.text import Text

    from ..bundles.bundle import Bundle
    from ..kinds import KINDS
    from ..trust.trust import chosen
    from ..trust.verifying import verify_bundle

    found = chosen(trust)
    signer = None if found is None else verify_bundle(bundle, found)
    opened = Bundle.open(bundle, verify=signer is None, allow_failed_parity=True)  # each file is hashed once
    replayed = KINDS[opened.manifest.kind].replay(opened, device)
    hashed = f"{len(opened.manifest.files)} files, {opened.size():,} bytes: changed"
    results = [(hashed, 0.0, 0.0, True), *replayed]
    rows = [{"check": what, "measured": value, "bound": bound, "holds": good} for what, value, bound, good in results]
    holds = all(row["holds"] for row in rows)
    if as_json:
        signed = {} if found is None else {"signed_by": None if signer is None else asdict(signer)}
        print_json({"bundle": opened.manifest.name, "holds": holds, "results": rows, **signed})
    else:
        table = Table(title=f"{opened.manifest.name} on this device: {'good' if holds else 'NOT GOOD'}")
        for column in ("check", "measured", "bound", ""):
            table.add_column(column)
        for row in rows:
            mark = Text("ok", "green") if row["holds"] else Text("FAIL", "red")
            table.add_row(str(row["check"]), f"{row['measured']:.7g}", f"{row['bound']:g}", mark)
        out.print(table)
        if signer is not None:
            out.print(f"signed by {signer}", soft_wrap=True)
    for warning in opened.manifest.warnings:
        warn(f"its parity passed with a warning: {warning}")
    if not holds:
        raise typer.Exit(1)
