"""`medge embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console.options import AllowFailed, BundleArgument, DeviceOption, ForceOption, JsonOption, OptionalImagesArgument
from ..console.terminal import SOME_FAILED, out, print_json, progress, warn
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

    The file holds one (N, D) float32 tensor "embeddings"; its metadata lists the inputs in the same order.

    Example: medge embed bundle films/ --out films.safetensors
    """
    import json
    import warnings

    import numpy as np
    from safetensors.numpy import save_file

    from ..bundles.atomic import atomic_file, refuse_existing
    from ..encoder.encoder import TextCutWarning, load
    from ..errors import ImageError
    from ..pictures.images import describe, find_images

    if bool(images) == bool(text):
        raise typer.BadParameter("give images or --text, one of the two")
    if text and (frame is not None or window):
        raise typer.BadParameter("--frame and --window are for images")
    view = view_of(frame, window)
    refuse_existing(to, force=force)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    names: list[str] = []
    rows = []
    failed = 0
    if text:
        for cut in encoder.cuts(text):
            warn(str(cut))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TextCutWarning)
            rows, names = list(encoder.embed_texts(text)), list(text)
    else:
        paths = list(find_images(images or []))
        with progress() as advance:
            for done, (source, item) in enumerate(encoder.stream_images(paths, view=view), 1):
                if isinstance(item, ImageError):
                    warn(str(item))
                    failed += 1
                else:
                    names.append(describe(source))
                    rows.append(item)
                advance("images", done, len(paths))
        if failed:
            warn(f"{failed} of {len(paths)} images could not be read")
    if not rows:
        raise ImageError("nothing was embedded")
    with atomic_file(to) as partial:
        save_file({"embeddings": np.stack(rows)}, partial, {"inputs": json.dumps(names), "model": encoder.fingerprint})
    facts = {"out": str(to), "embedded": len(rows), "failed": failed, "size": len(rows[0])}
    if as_json:
        print_json(facts)
    else:
        out.print(f"{len(rows)} embeddings of {len(rows[0])} numbers in {to}", markup=False, highlight=False)
    if failed:
        raise typer.Exit(SOME_FAILED)
