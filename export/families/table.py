"""The families of models that medge knows: a line each."""

from __future__ import annotations

from pathlib import Path

from ...runtime.errors import CheckpointError
from ..source.checkpoint import Checkpoint
from . import clip, siglip
from .encoder import EncoderReference
from .gemma3 import refuse_language_model

FAMILIES: dict[str, type[EncoderReference]] = {
    family.family: family for family in (siglip.Reference, clip.Reference)
}  # fmt: skip


def family_of(checkpoint: Checkpoint) -> type[EncoderReference]:
    """The family of encoders that a checkpoint belongs to.

    Raises:
        CheckpointError: it belongs to none; the sentence names the known ones.
    """
    refuse_language_model(checkpoint)
    found = checkpoint.config.get("model_type")
    for family in FAMILIES.values():
        if found in family.model_types:
            return family
    path = checkpoint.folder / "config.json"
    known = ", ".join(kind for family in FAMILIES.values() for kind in family.model_types)
    raise CheckpointError(f"{path}: the model is of type {found!r}; the known types of encoders are {known}")


def open_encoder(folder: str | Path) -> EncoderReference:
    """The full-precision model of an encoder's checkpoint, whatever its family.

    Raises:
        CheckpointError: the checkpoint is damaged, or of no known family.
    """
    checkpoint = Checkpoint.open(folder)
    return family_of(checkpoint)(checkpoint)
