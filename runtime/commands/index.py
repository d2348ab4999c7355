"""`medge index build|add|search|remove|info`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..console.options import AllowFailed, BundleArgument, DeviceOption, ForceOption, ImagesArgument, JsonOption
from ..console.terminal import cuts_told, of_many, out, print_json, progress, warn
from ..console.view_options import FrameOption, WindowOption, view_of

if TYPE_CHECKING:
    from ..encoder.encoder import Encoder
    from ..encoder.vector_index import Added

app = typer.Typer(no_args_is_help=True, help="Build and search a single-file vector index.")
IndexArgument = Annotated[Path, typer.Argument(help="The index file.")]
RelativeOption = Annotated[
    Path | None,
    typer.Option(
        help="Keep paths below this folder, so that the archive can move with its index.", show_default="absolute paths"
    ),
]


@app.command()
def build(
    bundle: BundleArgument, index: IndexArgument, images: ImagesArgument, relative_to: RelativeOption = None,
    force: ForceOption = False,
    frame: FrameOption = None, window: WindowOption = None,
    device: DeviceOption = "auto", allow_failed_parity: AllowFailed = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Embed images into a new index; the same command resumes a build that was interrupted.

    Example: medge index build bundle archive.index archive/ --relative-to archive/
    """
    from ..console.image_run import tell_unread
    from ..encoder.load import load
    from ..encoder.vector_index import build_index
    from ..pictures.images import find_images

    view = view_of(frame, window)
    tell_unread(images)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    with progress() as advance:
        done, resumed = build_index(
            index, encoder, find_images(images), view=view, base=relative_to, force=force, progress=advance
        )
    _tell(index, encoder, done, as_json, resumed)


@app.command()
def add(
    bundle: BundleArgument, index: IndexArgument, images: ImagesArgument, relative_to: RelativeOption = None,
    frame: FrameOption = None, window: WindowOption = None,
    device: DeviceOption = "auto", allow_failed_parity: AllowFailed = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Add images to an index; those already in it are passed over.

    Example: medge index add bundle archive.index archive/new/ --relative-to archive/
    """
    from ..console.image_run import tell_unread
    from ..encoder.load import load
    from ..encoder.vector_index import VectorIndex
    from ..pictures.images import find_images

    view = view_of(frame, window)
    tell_unread(images)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    with VectorIndex.open(index, encoder.fingerprint) as opened, progress() as advance:
        done = opened.add(encoder, find_images(images), advance, view=view, base=relative_to)
    _tell(index, encoder, done, as_json, done.present)


@app.command()
def remove(
    index: IndexArgument,
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them; the files may be gone.")],
    relative_to: RelativeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take images out of an index.

    Example: medge index remove archive.index archive/withdrawn --relative-to archive/
    """
    from ..encoder.vector_index import VectorIndex

    with VectorIndex.open(index, None) as opened:
        removed = opened.remove(images, relative_to)
        left = len(opened)
    if as_json:
        print_json({"index": str(index), "removed": removed, "images": left})
    else:
        out.print(f"{index}: {_images(removed)} taken out, {left} left")


@app.command()
def info(index: IndexArgument, as_json: JsonOption = False) -> None:
    """Say what is in an index: how many images, how their paths are kept, and which bundle made it.

    Example: medge index info archive.index
    """
    from rich.table import Table

    from ..encoder.vector_index import VectorIndex

    with VectorIndex.open(index, None) as opened:
        facts = opened.facts()
    if as_json:
        print_json({"index": str(index), **facts})
        return
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("images", f"{facts['images']:,}")
    table.add_row("embedding", f"{facts['size']} numbers")
    table.add_row("file", f"{facts['bytes']:,} bytes")
    table.add_row("paths", facts["paths"])
    table.add_row("made with", f"vision tower {facts['vision_sha256']}, profile {facts['profile']}")
    out.print(table)


@app.command()
def search(
    bundle: BundleArgument, index: IndexArgument,
    text: Annotated[str | None, typer.Option(help="Find images that this text describes.")] = None,
    image: Annotated[Path | None, typer.Option(help="Find images that look like this one.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    frame: FrameOption = None, window: WindowOption = None,
    device: DeviceOption = "auto", allow_failed_parity: AllowFailed = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Find the images nearest to a text or to an image.

    Example: medge index search bundle archive.index --text "chest x-ray with pneumonia"
    """
    from rich.table import Table

    from ..encoder.load import load
    from ..encoder.vector_index import VectorIndex

    if (text is None) == (image is None):
        raise typer.BadParameter("give --text or --image, one of the two")
    if text is not None and (frame is not None or window):
        raise typer.BadParameter("--frame and --window are for --image")
    view = view_of(frame, window)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    if text is not None:
        with cuts_told(encoder, [text]):
            query = encoder.embed_texts(text)[0]
    else:
        assert image is not None
        query = encoder.embed_images(image, view=view)[0]
    with VectorIndex.open(index, encoder.fingerprint) as opened:
        hits = opened.search(query, count)
    if as_json:
        found = [{"image": hit.path, "cosine": hit.cosine} for hit in hits]
        print_json({"bundle": encoder.manifest.name, "index": str(index), "results": found})
        return
    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("cosine", justify="right")
    for hit in hits:
        table.add_row(hit.path, f"{hit.cosine:.4f}")
    out.print(table)


def _tell(index: Path, encoder: Encoder, done: Added, as_json: bool, present: int) -> None:
    from ..console.image_run import end_with

    for found in done.failed:
        warn(found.error)
    if as_json:
        many = of_many(done.failed, done=done.added, before=present)
        print_json({"bundle": encoder.manifest.name, "out": str(index), **many})
    else:
        out.print(f"{index}: {_images(done.added)} added, {present} there before, {len(done.failed)} could not be read")
    end_with(done.failed, done=done.added + present)


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"
