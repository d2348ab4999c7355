"""What a distilled student's checkpoint holds beside its weights: its teacher, and the subspace it lives in."""

from __future__ import annotations

import math
from pathlib import Path

from ...quant.distill.subspace import Subspace
from ...runtime.bundles.facts import Teacher
from ...runtime.bundles.tensors import Declared, read_tensors
from ...runtime.bundles.typed_json import build
from ...runtime.errors import CheckpointError
from .checkpoint import read_json

# What lies in a student's folder beside the checkpoint: how it was made, and which of the teacher's directions it has.
FACTS, SUBSPACE = "distillation.json", "subspace.safetensors"


ROLE = "subspace"


def read_teacher(folder: Path) -> Teacher | None:
    """Name and hashes of the teacher that a checkpoint was distilled from; None where it was not."""
    path = folder / FACTS
    if not path.is_file():
        return None
    try:
        return build(Teacher, read_json(path)["teacher"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the teacher is not named ({error!r}); distil the student again") from error


def read_subspace(path: Path) -> Subspace:
    """The directions of the teacher's embeddings in which a student lives."""
    try:
        return Subspace(read_tensors(path, {"rows": Declared("F32", (None, None))})[0]["rows"], math.nan)
    except ValueError as error:
        raise CheckpointError(f"{path} holds no directions ({error}); distil the student again") from error


def student_subspace(folder: Path) -> Path | None:
    """A student's file of them, where it needs one: not if its embeddings are as wide as its teacher's."""
    path = folder / SUBSPACE
    if not path.is_file():
        return None
    rows = read_subspace(path).rows
    return path if rows.shape[0] < rows.shape[1] else None
