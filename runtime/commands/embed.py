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
    to: Annotated[
        Path, typer.Option("--out", help="File to write, each result as it comes: .safetensors, .parquet or .jsonl.")
    ] = Path("embeddings.safetensors"),
    frame: FrameOption = None,
    window: WindowOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    allow_failed_parity: AllowFailed = False,
    as_json: JsonOption = False,
) -> None:
    """Write unit-length embeddings of images, or of texts, to a file.

    A .safetensors file holds one (N, D) float32 tensor "embeddings", and its metadata lists the inputs in the same order;
    .parquet has a row for each, with a column of lists, "embedding"; .jsonl has an object a line. Interrupted, the same
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
    from ..console.layouts import EMBEDDINGS, Columns, as_numbers
    from ..encoder.load import load

    view = view_of(frame, window)
    run = ImageRun(inputs_of(images or []), view, to, EMBEDDINGS, force=force)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    same = {"model": encoder.fingerprint, "made_with": sha256_json([encoder.fingerprint, asdict(view)])[:16]}
    columns = Columns("image", same, vectors=("embedding",))
    run.go(encoder, columns, lambda embedding, _: Outcome({}, {"embedding": as_numbers(embedding)}))
    size = encoder.manifest.encoder.embedding_size
    if not as_json and (count := run.before + len(run.results)):
        out.print(told(count, size, to))
    run.end({"bundle": encoder.manifest.name, "out": str(to), "size": size} if as_json else None)


def _embed_texts(
    bundle: Path, texts: Sequence[str], to: Path, device: str, *, allow_failed_parity: bool, force: bool, as_json: bool
) -> None:
    from ..bundles.manifest import sha256_json
    from ..console.layouts import EMBEDDINGS, Columns, as_numbers, check_ending
    from ..console.result_file import ResultFile
    from ..encoder.load import load

    check_ending(to, EMBEDDINGS)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    same = {"model": encoder.fingerprint, "made_with": sha256_json([encoder.fingerprint, "texts"])[:16]}
    with ResultFile(to, Columns("text", same, vectors=("embedding",)), force=force) as file:
        fresh = [text for text in dict.fromkeys(texts) if text not in file.done]
        with cuts_told(encoder, fresh):
            table = encoder.embed_texts(fresh)
        for text, row in zip(fresh, table, strict=True):
            file.add({"text": text, **same, "embedding": as_numbers(row)})
        count = len(file.done)
    size = encoder.manifest.encoder.embedding_size
    if as_json:
        print_json({"bundle": encoder.manifest.name, "out": str(to), "size": size,
                    "results": [{"text": text} for text in texts]})  # fmt: skip
    else:
        out.print(told(count, size, to))


def told(count: int, size: int, to: Path) -> str:
    return f"{count} embedding{'s' * (count != 1)} of {size} numbers in {to}"
