"""`medge probe fit|predict|evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console.options import AllowFailed, BundleArgument, DeviceOption, ForceOption, ImagesArgument, JsonOption
from ..console.terminal import SOME_FAILED, out, print_json, warn
from ..console.view_options import FrameOption, WindowOption, view_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..encoder.encoder import Encoder
    from ..pictures.view import View

app = typer.Typer(no_args_is_help=True, help="Fit and apply a classifier on embeddings.")
ProbeArgument = Annotated[Path, typer.Argument(help="The probe file.")]
Labelled = Annotated[Path, typer.Argument(help="A folder with one sub-folder of images per label.")]


@app.command()
def fit(
    bundle: BundleArgument, folder: Labelled,
    to: Annotated[Path, typer.Option("--out", help="The probe file to write.")] = Path("probe.safetensors"),
    frame: FrameOption = None, window: WindowOption = None,
    device: DeviceOption = "auto", force: ForceOption = False, allow_failed_parity: AllowFailed = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Fit a logistic regression on the embeddings of labelled images.

    Example: medge probe fit bundle training/ --out tb.safetensors
    """
    from ..encoder.encoder import load
    from ..encoder.linear_probe import fit_probe

    view = view_of(frame, window)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    embeddings, labels, failed = _embed_labelled(encoder, folder, view)
    probe = fit_probe(embeddings, labels, encoder.fingerprint)
    probe.save(to, force=force)
    if as_json:
        print_json({"probe": str(to), **probe.facts, "failed": failed})
    else:
        counts = ", ".join(f"{name} {count}" for name, count in probe.facts["counts"].items())
        out.print(f"{to}: fitted on {len(labels)} images ({counts})", markup=False, highlight=False)
    if failed:
        raise typer.Exit(SOME_FAILED)


@app.command()
def predict(
    bundle: BundleArgument, probe: ProbeArgument,
    images: ImagesArgument,
    frame: FrameOption = None, window: WindowOption = None,
    device: DeviceOption = "auto", allow_failed_parity: AllowFailed = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Apply a probe to images.

    Example: medge probe predict bundle tb.safetensors film.dcm
    """
    from rich.table import Table
    from rich.text import Text

    from ..encoder.encoder import load
    from ..encoder.linear_probe import Probe
    from ..errors import ImageError
    from ..pictures.images import describe, find_images

    view = view_of(frame, window)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    fitted = Probe.load(probe, encoder.fingerprint)
    results: list[dict[str, Any]] = []
    failed = 0
    for source, item in encoder.stream_images(find_images(images), view=view):
        if isinstance(item, ImageError):
            warn(str(item))
            failed += 1
            continue
        scores = fitted.predict(item[None])[0]
        results.append(
            {"image": describe(source), "probabilities": dict(zip(fitted.labels, scores.tolist(), strict=True))}
        )
    if as_json:
        print_json({"results": results, "failed": failed})
    else:
        table = Table("image", "label", "probability")
        for result in results:
            ranked = sorted(result["probabilities"].items(), key=lambda pair: -pair[1])
            table.add_row(Text(str(result["image"])), Text(ranked[0][0]), f"{ranked[0][1]:.3f}")
        out.print(table)
    if failed:
        raise typer.Exit(SOME_FAILED if results else 1)


@app.command()
def evaluate(
    bundle: BundleArgument, probe: ProbeArgument, folder: Labelled,
    frame: FrameOption = None, window: WindowOption = None,
    device: DeviceOption = "auto", allow_failed_parity: AllowFailed = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Accuracy, macro AUC and calibration error of a probe on labelled images, with 95% intervals.

    Example: medge probe evaluate bundle tb.safetensors held-back/
    """
    from rich.table import Table

    from ..encoder.encoder import load
    from ..encoder.linear_probe import Probe, evaluate_probe

    view = view_of(frame, window)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    fitted = Probe.load(probe, encoder.fingerprint)
    embeddings, labels, failed = _embed_labelled(encoder, folder, view)
    figures = evaluate_probe(fitted, embeddings, labels)
    if as_json:
        print_json({**figures, "failed": failed})
    else:
        table = Table("figure", "value", "95% interval", title=f"{probe.name} on {figures['images']} images")
        for name in ("accuracy", "auc", "ece"):
            figure = figures[name]
            table.add_row(name, f"{figure['value']:.4f}", f"{figure['low']:.4f} to {figure['high']:.4f}")
        out.print(table)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _embed_labelled(encoder: Encoder, folder: Path, view: View) -> tuple[NDArray[np.float32], list[str], int]:
    import numpy as np

    from ..errors import ImageError
    from ..pictures.images import labelled_folder

    paths, names = labelled_folder(folder)
    rows, labels = [], []
    for (_, item), name in zip(encoder.stream_images(paths, view=view), names, strict=True):
        if isinstance(item, ImageError):
            warn(str(item))
        else:
            rows.append(item)
            labels.append(name)
    if not rows:
        raise ImageError(f"{folder}: no image could be read")
    return np.stack(rows), labels, len(paths) - len(rows)
