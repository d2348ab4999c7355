"""A measurement's rows in a file of the user's: one for each image, or for each prompt and question of a language model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ...runtime.bundles.bundle import Bundle
from ...runtime.bundles.manifest import sha256_json
from ...runtime.console.layouts import Columns
from ...runtime.console.result_file import ResultFile
from ..parity.kept_outputs import Row, TellRow, no_row

ENCODER = ("label", "reference_says", "bundle_says"), ("cosine",)
GENERATOR = ("label", "reference_says", "bundle_says"), ("kld", "same_first")


@contextlib.contextmanager
def rows_into(path: Path | None, bundle: Bundle, made_with: object, *, force: bool) -> Iterator[TellRow]:
    """What writes rows as they come; those that stand in the file already are left as they are.

    Args:
        path: .csv, .jsonl or .parquet, as `check_ending` has found; where None, rows go nowhere.
        bundle: what is measured.
        made_with: what decides the rows.
        force: begin the file anew.

    Raises:
        StorageError: the file holds other rows, or can't be written.
        MissingExtraError: the package that writes such files is not installed.
    """
    if path is None:
        yield no_row
        return
    manifest = bundle.manifest
    key, (texts, numbers) = ("image", ENCODER) if manifest.kind == "encoder" else ("item", GENERATOR)
    same = {"bundle": manifest.name, "made_with": sha256_json(made_with)[:16]}
    several = len(manifest.artefacts) > 1
    with ResultFile(path, Columns(key, same, texts, numbers), force=force) as file:

        def tell(row: Row) -> None:
            facts = dict(row)
            side = facts.pop("side", "")
            name = facts.pop("image", "") or f"{facts.pop('of')} {facts.pop('number')}"
            name = f"{side}: {name}" if several else name
            if name not in file.done:
                file.add({key: name, **same, **facts})

        yield tell
