"""`medge kit update`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...console.options import ForceOption, JsonOption
from ...console.terminal import out, print_json, progress
from .build import Key, TrustFolder
from .keys import asked_passphrase


def update(
    old: Annotated[
        Path,
        typer.Argument(help="The kit that devices have: its folder, or a copy of its kit.json.", show_default=False),
    ],
    new: Annotated[Path, typer.Argument(help="The new kit's folder, whole.", show_default=False)],
    key: Key,
    out_folder: Annotated[
        Path, typer.Option("--out", help="The update's folder, such as one on the stick.", show_default=False)
    ],
    trust: TrustFolder = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a stick that carries only what the older kit lacks, and print how large it is.

    Example: medge kit update kits/2026-10 kits/2026-11 --key makers.key --out /media/usb/update
    """
    from dataclasses import asdict

    from ...kit.building.makers import Makers
    from ...kit.building.update import build_update, parts
    from ...kit.layout import MOST_BYTES, Kit, Statement, facts, read_small

    before = Statement.parse(read_small(old, MOST_BYTES), old) if old.is_file() else Kit.open(old).statement
    whole = Kit.open(new)
    makers = Makers.read(key, trust, lambda: asked_passphrase(key))
    with progress() as advance:
        kit = build_update(before, whole, out_folder, makers, force=force, progress=advance)
    size = sum(path.stat().st_size for path in out_folder.rglob("*") if path.is_file())
    found = parts(before, whole.statement)
    if as_json:
        print_json(
            {"out": str(out_folder), "bytes": size, **facts(kit.statement), "results": [asdict(one) for one in found]}
        )
        return
    for one in found:
        out.print(f"{one.carried / 1e6:10.1f} MB of {one.whole / 1e6:10.1f} MB  {one.component}", soft_wrap=True)
    out.print(f"{size / 1e6:10.1f} MB  {out_folder}: from kit {before.counter} to {kit.counter}", soft_wrap=True)
