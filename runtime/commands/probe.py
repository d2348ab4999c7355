"""`medge probe fit|predict|evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console.options import (
    AllowFailed,
    BundleArgument,
    DeviceOption,
    ForceOption,
    ImagesArgument,
    JsonOption,
    ResultsOption,
)
from ..console.terminal import of_many, out, print_json, progress, warn
from ..console.view_options import FrameOption, WindowOption, view_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from ..console.image_run import Outcome
    from ..console.layouts import Row
    from ..encoder.encoder import Encoder
    from ..encoder.linear_probe import Probe
    from ..pictures.images import Refused
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
    from ..bundles.atomic import only_writer
    from ..console.image_run import end_with
    from ..encoder.linear_probe import fit_probe
    from ..encoder.load import load

    view = view_of(frame, window)
    with only_writer(to, force=force):
        encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
        found = _embed_labelled(encoder, folder, view)
        probe = fit_probe(found.embeddings, found.labels, encoder.fingerprint)
        probe.save(to, force=force)
    if as_json:
        print_json({"bundle": encoder.manifest.name, "out": str(to), **probe.facts, **found.many()})
    else:
        counts = ", ".join(f"{name} {count}" for name, count in probe.facts["counts"].items())
        out.print(f"{to}: fitted on {len(found.labels)} images ({counts})")
    end_with(found.failed, done=len(found.labels))


@app.command()
def predict(
    bundle: BundleArgument, probe: ProbeArgument,
    images: ImagesArgument,
    to: ResultsOption = None,
    frame: FrameOption = None, window: WindowOption = None,
    device: DeviceOption = "auto", force: ForceOption = False, allow_failed_parity: AllowFailed = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Apply a probe to images.

    Example: medge probe predict bundle tb.safetensors film.dcm
    """
    from ..bundles.manifest import sha256_file, sha256_json
    from ..console.image_run import ImageRun, inputs_of
    from ..console.layouts import TABLES, Columns
    from ..encoder.linear_probe import Probe
    from ..encoder.load import load

    view = view_of(frame, window)
    run = ImageRun(inputs_of(images), view, to, TABLES, force=force)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    fitted = Probe.load(probe, encoder.fingerprint)
    asked = [encoder.fingerprint, sha256_file(probe), asdict(view)]
    same = {"probe": probe.name, "made_with": sha256_json(asked)[:16]}
    shares = tuple(f"p {label}" for label in fitted.labels)
    columns = Columns("image", same, ("best",), shares, taken_for=lambda row: str(row.get("best") or ""))
    run.go(encoder, columns, lambda embedding, _: _outcome(fitted, embedding))
    if not as_json and run.results:
        out.print(_table(run.results))
    run.end({"bundle": encoder.manifest.name, "probe": probe.name} if as_json else None)


def _outcome(probe: Probe, embedding: NDArray[np.float32]) -> Outcome:
    """The labels' probabilities of an image."""
    from ..console.image_run import Outcome

    scores = dict(zip(probe.labels, probe.predict(embedding[None])[0].tolist(), strict=True))
    best = max(scores, key=scores.__getitem__)
    shares = {f"p {label}": round(score, 6) for label, score in scores.items()}
    return Outcome({"probabilities": scores}, {"best": best, **shares})


def _table(results: Sequence[Row]) -> Table:
    """The likeliest label of each image."""
    from rich.table import Table

    table = Table("image", "label", "probability")
    for result in results:
        label, score = max(result["probabilities"].items(), key=lambda pair: pair[1])
        table.add_row(result["image"], label, f"{score:.3f}")
    return table


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

    from ..console.image_run import end_with
    from ..encoder.linear_probe import Probe, evaluate_probe
    from ..encoder.load import load

    view = view_of(frame, window)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    fitted = Probe.load(probe, encoder.fingerprint)
    found = _embed_labelled(encoder, folder, view)
    figures = evaluate_probe(fitted, found.embeddings, found.labels)
    if as_json:
        print_json({"bundle": encoder.manifest.name, "probe": probe.name, **figures, **found.many()})
    else:
        table = Table("figure", "value", "95% interval", title=f"{probe.name} on {figures['images']} images")
        for name in ("accuracy", "auc", "ece"):
            figure = figures[name]
            table.add_row(name, f"{figure['value']:.4f}", f"{figure['low']:.4f} to {figure['high']:.4f}")
        out.print(table)
    end_with(found.failed, done=len(found.labels))


@dataclass(frozen=True)
class _Labelled:
    """Images of a labelled folder: embeddings, (N, D); the N labels; and what could not be read."""

    embeddings: NDArray[np.float32]
    labels: list[str]
    failed: list[Refused]

    def many(self) -> dict[str, Any]:
        """For JSON."""
        return of_many(self.failed, done=len(self.labels))


def _embed_labelled(encoder: Encoder, folder: Path, view: View) -> _Labelled:
    import numpy as np

    from ..errors import ImageError
    from ..pictures.images import Refused, labelled_folder

    paths, names = labelled_folder(folder)
    rows, labels, failed = [], [], []
    with progress() as advance:
        found = zip(encoder.stream_images(paths, view=view), names, strict=True)
        for done, ((source, item), name) in enumerate(found, 1):
            if isinstance(item, ImageError):
                warn(str(item))
                failed.append(Refused(str(source), str(item)))
            else:
                rows.append(item)
                labels.append(name)
            advance("images", done, len(paths))
    if not rows:
        raise ImageError(f"{folder}: no image could be read")
    return _Labelled(np.stack(rows), labels, failed)
