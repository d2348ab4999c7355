"""`medge standin`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from ...runtime.console.options import ForceOption, JsonOption
from ...runtime.console.terminal import out, print_json
from ...runtime.errors import RecipeError
from ..source.checkpoint import Checkpoint

# name -> (module, function): each is imported only when it is asked for.
STANDINS = {
    "medsiglip-mini": ("write", "write_medsiglip_mini"),
    "medsiglip-random": ("write", "write_medsiglip_random"),
    "medgemma-mini": ("medgemma_mini", "write_medgemma_mini"),
    "medgemma-4b-random": ("medgemma_random", "write_medgemma_4b_random"),
}


def standin(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(STANDINS)}.")],
    folder: Annotated[Path, typer.Argument(help="Where to write the checkpoint.")],
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a stand-in for the gated weights as a Hugging Face checkpoint.

    medsiglip-mini was trained on public images and classifies them; medsiglip-random has MedSigLIP's full size and
    random weights, for speed, size and memory only (3.5 GB). medgemma-mini is Gemma 3 270M with a small vision tower and
    a projector trained here (needs the extra "standin"); medgemma-4b-random has MedGemma 4B's full size (8.6 GB).

    Example: medge standin medsiglip-mini medsiglip-mini
    """
    if name not in STANDINS:
        raise RecipeError(f"there is no stand-in {name!r}; choose from {', '.join(STANDINS)}")
    module, function = STANDINS[name]
    getattr(importlib.import_module(f"..standin.{module}", __package__), function)(folder, force=force)
    checkpoint = Checkpoint.open(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    if as_json:
        print_json({"name": name, "out": str(folder), "tensors": len(checkpoint.names()), "bytes": size})
    else:
        out.print(f"{name} in {folder}: {len(checkpoint.names())} tensors, {size / 1e6:.1f} MB")
