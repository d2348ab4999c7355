"""`medge golden`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..console.options import AllowFailed, BundleArgument, ForceOption, JsonOption, LabelsOption
from ..console.terminal import out, print_json


def golden(
    bundle: BundleArgument,
    to: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    images: Annotated[list[Path] | None, typer.Option(help="Images, or folders of them; repeat it.")] = None,
    most: Annotated[int, typer.Option(min=1, help="Images to take at most.")] = 200,
    texts: Annotated[Path | None, typer.Option(help="Texts to tokenize, one a line, beside made-up ones.")] = None,
    labels: LabelsOption = None,
    probe: Annotated[Path | None, typer.Option(help="A probe fitted on this bundle.")] = None,
    force: ForceOption = False,
    allow_failed_parity: AllowFailed = False,
    as_json: JsonOption = False,
) -> None:
    """Write what a runtime in another language must reproduce: pixels, token ids, embeddings, scores, decisions, answers.

    The labels are the bundle's own without --labels. The images that are given become part of the files: take public ones.

    Example: medge golden bundle --out golden --images pictures/
    """
    from itertools import islice

    from ..bundles.atomic import atomic_folder
    from ..bundles.bundle import Bundle
    from ..errors import CorpusError
    from ..golden.files import Inputs
    from ..kinds import KINDS
    from ..pictures.images import find_images
    from ..trust.verifying import signed_manifest
    from ..written_text import read_written

    opened = Bundle.open(
        bundle, allow_failed_parity=allow_failed_parity, manifest_sha256=signed_manifest(bundle, None)
    )  # fmt: skip
    found = list(islice(find_images(images or []), most))
    with atomic_folder(to, force=force) as folder:
        lines = read_written(texts, CorpusError).splitlines() if texts else []
        inputs = Inputs(found, lines, labels, probe)
        index = KINDS[opened.manifest.kind].write_golden_files(opened, folder, inputs)
        (folder / "golden.json").write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        print_json({"bundle": opened.manifest.name, "out": str(to), **index})
    else:
        out.print(f"wrote {to}: " + ", ".join(f"{k} {v}" for k, v in index.items() if isinstance(v, int | str)))
