"""`medge embed`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console.options import AllowFailed, BundleArgument, DeviceOption, ForceOption, JsonOption, OptionalImagesArgument
from ..console.terminal import SOME_FAILED, out, print_json, progress, warn
from ..console.view_options import FrameOption, WindowOption, view_of

if TYPE_CHECKING:
    from ..encoder.encoder import Encoder
    from ..pictures.view import View


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

    The file holds one (N, D) float32 tensor "embeddings"; its metadata lists the inputs in the same order.

    Example: medge embed bundle films/ --out films.safetensors
    """
    import json

    import numpy as np
    from safetensors.numpy import save_file

    from ..bundles.atomic import atomic_file, only_writer
    from ..encoder.encoder import load
    from ..errors import ImageError

    if bool(images) == bool(text):
        raise typer.BadParameter("give images or --text, one of the two")
    if text and (frame is not None or window):
        raise typer.BadParameter("--frame and --window are for images")
    view = view_of(frame, window)
    with only_writer(to, force=force):
        encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
        names, rows, failed = _embed_texts(encoder, text) if text else _embed_images(encoder, images or [], view)
        if not rows:
            raise ImageError("nothing was embedded")
        facts = {"inputs": json.dumps(names), "model": encoder.fingerprint}
        with atomic_file(to) as partial:
            save_file({"embeddings": np.stack(rows)}, partial, facts)
    told = {"out": str(to), "embedded": len(rows), "failed": failed, "size": len(rows[0])}
    if as_json:
        print_json(told)
    else:
        out.print(f"{len(rows)} embeddings of {len(rows[0])} numbers in {to}")
    if failed:
        raise typer.Exit(SOME_FAILED)


Embedded = tuple[list[str], list[Any], int]  # names, embeddings, and how many inputs could not be read


def _embed_texts(encoder: Encoder, texts: Sequence[str]) -> Embedded:
    import warnings

    from ..encoder.encoder import TextCutWarning

    for cut in encoder.cuts(texts):
        warn(str(cut))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextCutWarning)
        return list(texts), list(encoder.embed_texts(texts)), 0


def _embed_images(encoder: Encoder, images: Sequence[Path], view: View) -> Embedded:
    from ..errors import ImageError
    from ..pictures.images import describe, find_images

    names: list[str] = []
    rows: list[Any] = []
    paths = list(find_images(list(images)))
    with progress() as advance:
        for done, (source, item) in enumerate(encoder.stream_images(paths, view=view), 1):
            if isinstance(item, ImageError):
                warn(str(item))
            else:
                names.append(describe(source))
                rows.append(item)
            advance("images", done, len(paths))
    if failed := len(paths) - len(rows):
        warn(f"{failed} of {len(paths)} images could not be read")
    return names, rows, failed
