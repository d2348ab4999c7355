"""`medge calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...runtime.console.options import ForceOption, JsonOption
from ...runtime.console.terminal import Warned, out, print_json, progress
from .options import CORPUS, CheckpointOption


def calibrate(
    checkpoint: CheckpointOption,
    to: Annotated[Path, typer.Option("--out", help="The importance matrix to write, or to go on with.")],
    data: Annotated[
        list[Path] | None,
        typer.Argument(help=CORPUS, show_default="medge's own"),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Gather a language model's importance matrix: how strongly your texts and images drive each input of each matrix.

    The file is in llama.cpp's imatrix format. Interrupted, the same command goes on where it was. A matrix of another checkpoint
    or of other data is replaced with --force only.

    Example: medge calibrate --checkpoint medgemma-mini --out reports.imatrix.gguf reports/ films/
    """
    from ...runtime.bundles.claim import claimed, scratch_folder
    from ..families.gemma3 import open_gemma
    from ..source.corpus import read_corpus
    from ..source.given import check_files

    opened = open_gemma(checkpoint)
    check_files(data or ())
    corpus = read_corpus(data or ())
    corpus.images.told(told := Warned())
    from ..jobs.calibrate import calibrate as gather_matrix  # after what can be refused: it imports torch

    with claimed(to), scratch_folder(to) as scratch, progress() as advance:
        found = gather_matrix(opened, corpus, scratch=scratch, out=to, force=force, progress=advance)
    facts = {"out": str(to), "chunks": found.chunks, "matrices": len(found.sums), "texts": len(corpus.texts),
             "images": len(corpus.images), "failed": told.failed()}  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        out.print(
            f"{to}: {len(found.sums)} matrices from {found.chunks} prompts ({len(corpus.texts)} texts, "
            f"{len(corpus.images)} images)",
        )  # fmt: skip
