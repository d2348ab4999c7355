"""`medge standin`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...runtime.console import ForceOption, JsonOption, out, print_json
from ...runtime.errors import RecipeError
from ..checkpoint import Checkpoint
from ..standin.write import STANDINS


def standin(
    name: Annotated[str, typer.Argument(help="medsiglip-mini (trained, 10.6 M) or medsiglip-random (full size).")],
    folder: Annotated[Path, typer.Argument(help="Where to write the checkpoint.")],
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a stand-in for the gated weights as a Hugging Face checkpoint.

    medsiglip-mini was trained on public images and classifies them; medsiglip-random has MedSigLIP's full size and
    random weights, for speed, size and memory only (3.5 GB).

    Example: medge standin medsiglip-mini mini
    """
    if name not in STANDINS:
        raise RecipeError(f"there is no stand-in {name!r}; choose from {', '.join(STANDINS)}")
    STANDINS[name](folder, force=force)
    checkpoint = Checkpoint.open(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    if as_json:
        print_json({"name": name, "folder": str(folder), "tensors": len(checkpoint.names()), "bytes": size})
    else:
        out.print(
            f"{name} in {folder}: {len(checkpoint.names())} tensors, {size / 1e6:.1f} MB", markup=False, highlight=False
        )
