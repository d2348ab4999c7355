"""The folder of a model that reads reports, which a user has filled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...runtime.errors import CheckpointError


def check_files(folder: Path, names: Sequence[str], holds: str, needs: str) -> None:
    """Refuse a folder that lacks a file.

    Args:
        folder: where the model should lie.
        names: of the files, in the folder.
        holds: by what a user knows the right folder.
        needs: what the model needs, as a sentence.

    Raises:
        CheckpointError: it is no folder, or a file is missing.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give the one that holds {holds}")
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is not there: {needs}")
