"""`medge embed`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..console.options import AllowFailed, BundleArgument, DeviceOption, ForceOption, JsonOption, OptionalImagesArgument
from ..console.terminal import cuts_told, out, print_json
from ..console.view_options import FrameOption, WindowOption, view_of


def embed(
    bundle: BundleArgument,
    images: OptionalImagesArgument = None,
    text: Annotated[list[str] | None, typer.Option(help="A text to embed instead; repeat it.")] = None,
    to: Annotated[Path, typer.Option("--out", help="The .safetensors file to write.")] = Path("embeddings.safetensors"),
    frame: FrameOption = None,
    window: WindowOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    allow_failed_parity: AllowFailed = False,
    as_json: JsonOption = False,
) -> None:
    """Write unit-length embeddings of images, or of texts, to a safetensors file.

    The file holds one (N, D) float32 tensor "embeddings"; its metadata lists the inputs in the same order. Interrupted, the same
    command goes on; run again with more images, it adds theirs.

    Example: medge embed bundle films/ --out films.safetensors
    """
    if bool(images) == bool(text):
        raise typer.BadParameter("give images or --text, one of the two")
    if text and (frame is not None or window):
        raise typer.BadParameter("--frame and --window are for images")
    if text:
        _embed_texts(bundle, text, to, device, allow_failed_parity=allow_failed_parity, force=force, as_json=as_json)
        return
    from ..bundles.manifest import sha256_json
    from ..console.image_run import ImageRun, Outcome, inputs_of
    from ..console.layouts import EMBEDDINGS, Columns, as_text
    from ..encoder.encoder import load

    view = view_of(frame, window)
    run = ImageRun(inputs_of(images or []), view, to, EMBEDDINGS, force=force)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    same = {"model": encoder.fingerprint, "made_with": sha256_json([encoder.fingerprint, asdict(view)])[:16]}
    run.go(encoder, Columns("image", same), lambda embedding, _: Outcome({}, {"embedding": as_text(embedding)}))
    size = encoder.manifest.encoder.embedding_size
    if not as_json and (count := run.before + len(run.results)):
        out.print(f"{count} embeddings of {size} numbers in {to}")
    run.end({"bundle": encoder.manifest.name, "out": str(to), "size": size} if as_json else None)


def _embed_texts(
    bundle: Path, texts: Sequence[str], to: Path, device: str, *, allow_failed_parity: bool, force: bool, as_json: bool
) -> None:
    """Texts are few and quick: their file is written in one go."""
    from ..bundles.atomic import atomic_file, only_writer
    from ..console.layouts import EMBEDDINGS, Columns, Embeddings, check_ending
    from ..encoder.encoder import load

    check_ending(to, EMBEDDINGS)
    with only_writer(to, force=force):
        encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
        with cuts_told(encoder, texts):
            table = encoder.embed_texts(list(texts))
        rows = [{"text": text, "embedding": row} for text, row in zip(texts, table, strict=True)]
        with atomic_file(to) as partial:
            Embeddings(Columns("text", {"model": encoder.fingerprint})).write(partial, rows)
    if as_json:
        print_json({"bundle": encoder.manifest.name, "out": str(to), "size": table.shape[1],
                    "results": [{"text": text} for text in texts]})  # fmt: skip
    else:
        out.print(f"{len(rows)} embeddings of {table.shape[1]} numbers in {to}")
