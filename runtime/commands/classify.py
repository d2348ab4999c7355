"""`medge classify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console.options import (
    AllowFailed,
    BundleArgument,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    LabelsOption,
    ThreadsOption,
)
from ..console.terminal import SOME_FAILED, out, print_json, warn
from ..console.view_options import FrameOption, WindowOption, view_of

if TYPE_CHECKING:
    from ..encoder.encoder import Encoder
    from ..encoder.labels import LabelBank


def classify(
    bundle: BundleArgument,
    images: ImagesArgument,
    label: Annotated[list[str] | None, typer.Option(help="A label; repeat it. Without: the bundle's own.")] = None,
    labels: LabelsOption = None,
    top: Annotated[int, typer.Option(min=1, help="Labels to show per image.")] = 3,
    frame: FrameOption = None,
    window: WindowOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    fast: Annotated[bool, typer.Option("--fast", help="Some per cent faster, for more memory.")] = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Skip the check of the files' hashes.")] = False,
    allow_failed_parity: AllowFailed = False,
    as_json: JsonOption = False,
) -> None:
    """Score images against labels.

    Softmax: which of these labels is it? Sigmoid: does this label hold, whatever the others?
    An image that can't be read is named on stderr, the others are scored, and the exit code is 3.

    Example: medge classify bundle film.dcm --label "normal chest x-ray" --label "pneumonia"
    """
    from ..encoder.encoder import load
    from ..encoder.labels import as_prompts, read_labels
    from ..errors import ImageError, LabelError
    from ..pictures.images import describe, find_images

    if label and labels:
        raise LabelError("give --label or --labels, not both")
    view = view_of(frame, window)
    chosen = read_labels(labels) if labels else as_prompts(label) if label else None
    encoder = load(
        bundle, verify=not no_verify, allow_failed_parity=allow_failed_parity, threads=threads, device=device,
        fast=fast,
    )  # fmt: skip
    bank = _bank(encoder, chosen)
    results: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for source, item in encoder.stream_images(find_images(images), view=view):
        if isinstance(item, ImageError):
            failed.append({"image": describe(source), "error": str(item)})
            warn(str(item))
            continue
        ranked = encoder.score(item[None], bank)[0].ranked()[:top]
        results.append(
            {
                "image": describe(source),
                "labels": [{"label": name, "softmax": soft, "sigmoid": sig} for name, soft, sig in ranked],
            }
        )
    if as_json:
        print_json(
            {"bundle": encoder.manifest.name, "profile": encoder.manifest.profile, "results": results, "failed": failed}
        )
    elif results:
        _print(results, f"{encoder.manifest.name} ({encoder.manifest.towers['vision'].recipe})")
    if not results and not failed:
        raise ImageError("no image found in " + ", ".join(map(str, images)))
    if failed:
        if len(failed) > 1 or results:
            warn(f"{len(failed)} of {len(failed) + len(results)} images could not be read")
        raise typer.Exit(SOME_FAILED if results else 1)


def _bank(encoder: Encoder, prompts: dict[str, list[str]] | None) -> LabelBank:
    """The embedded labels; a text that is too long is told in one line."""
    import warnings

    from ..encoder.encoder import TextCutWarning

    for cut in encoder.cuts([text for group in prompts.values() for text in group]) if prompts else []:
        warn(str(cut))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextCutWarning)
        return encoder.bank(prompts)


def _print(results: list[dict[str, Any]], title: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title)
    table.add_column("image", overflow="fold")
    table.add_column("label")
    table.add_column("softmax", justify="right")
    table.add_column("sigmoid", justify="right")
    for result in results:
        for number, row in enumerate(result["labels"]):
            image = Text(str(result["image"]) if number == 0 else "")
            table.add_row(image, Text(row["label"]), f"{row['softmax']:.3f}", f"{row['sigmoid']:.3f}")
        table.add_section()
    out.print(table)
