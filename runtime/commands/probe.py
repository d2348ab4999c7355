"""`medge probe fit|predict|evaluate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
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
from ..console.terminal import SOME_FAILED, out, print_json, progress, told_stopped, told_totals, warn
from ..console.view_options import FrameOption, WindowOption, view_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from ..console.result_file import ResultFile
    from ..encoder.encoder import Encoder
    from ..encoder.linear_probe import Probe
    from ..pictures.view import View
    from ..progress import Progress

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
    from ..encoder.encoder import load
    from ..encoder.linear_probe import fit_probe

    view = view_of(frame, window)
    with only_writer(to, force=force):
        encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
        embeddings, labels, failed = _embed_labelled(encoder, folder, view)
        probe = fit_probe(embeddings, labels, encoder.fingerprint)
        probe.save(to, force=force)
    if as_json:
        print_json({"probe": str(to), **probe.facts, "failed": failed})
    else:
        counts = ", ".join(f"{name} {count}" for name, count in probe.facts["counts"].items())
        out.print(f"{to}: fitted on {len(labels)} images ({counts})")
    if failed:
        raise typer.Exit(SOME_FAILED)


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
    from ..encoder.encoder import load
    from ..encoder.linear_probe import Probe
    from ..errors import ImageError
    from ..pictures.images import find_images

    view = view_of(frame, window)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, device=device)
    fitted = Probe.load(probe, encoder.fingerprint)
    paths = list(find_images(images))
    if not paths:
        raise ImageError("no image found in " + ", ".join(map(str, images)))
    run = _Prediction(encoder, fitted, probe, view)
    try:
        with run.opened(to, force) as file, progress() as advance:
            run.predict(paths, file, advance)
    except KeyboardInterrupt:
        told_stopped(run.count, len(paths), to)
    if as_json:
        print_json({"results": run.results, "failed": run.failed})
    else:
        out.print(run.table())
    run.tell_totals()
    if run.failed:
        raise typer.Exit(SOME_FAILED if run.results or run.before else 1)


class _Prediction:
    """Images that a probe is applied to: each result is written and counted as it comes."""

    def __init__(self, encoder: Encoder, probe: Probe, path: Path, view: View) -> None:
        self.encoder, self.probe, self.path, self.view = encoder, probe, path, view
        self.results: list[dict[str, Any]] = []
        self.failed = 0
        self.before = 0  # images that an earlier run has done

    @property
    def count(self) -> int:
        return self.before + len(self.results) + self.failed

    def opened(self, to: Path | None, force: bool) -> AbstractContextManager[ResultFile | None]:
        """The file of results, to go on with."""
        from ..bundles.manifest import sha256_file, sha256_json
        from ..console.result_file import ResultFile

        if to is None:
            return nullcontext()
        asked = [self.encoder.fingerprint, sha256_file(self.path), asdict(self.view)]
        self.same = {"probe": self.path.name, "made_with": sha256_json(asked)[:16]}
        columns = ["image", *self.same, "best", *(f"p {label}" for label in self.probe.labels)]
        return ResultFile(to, columns, key="image", same=self.same, force=force)

    def predict(self, paths: Sequence[Path], file: ResultFile | None, advance: Progress) -> None:
        from ..console.result_file import image_name
        from ..errors import ImageError

        waiting = list(paths) if file is None else file.missing(paths)
        self.before = len(paths) - len(waiting)
        for source, item in self.encoder.stream_images(waiting, view=self.view):
            if isinstance(item, ImageError):
                warn(str(item))
                self.failed += 1
            else:
                scores = dict(zip(self.probe.labels, self.probe.predict(item[None])[0].tolist(), strict=True))
                self.results.append({"image": str(source), "probabilities": scores})
                if file is not None:
                    shares = {f"p {label}": round(score, 6) for label, score in scores.items()}
                    best = max(scores, key=scores.__getitem__)
                    file.add({"image": image_name(str(source)), **self.same, "best": best, **shares})
            advance("images", self.count, len(paths))

    def table(self) -> Table:
        """The likeliest label of each image."""
        from rich.table import Table

        table = Table("image", "label", "probability")
        for result in self.results:
            label, score = max(result["probabilities"].items(), key=lambda pair: pair[1])
            table.add_row(result["image"], label, f"{score:.3f}")
        return table

    def tell_totals(self) -> None:
        """On stderr: how many images were taken for what."""
        firsts = Counter(max(r["probabilities"].items(), key=lambda pair: pair[1])[0] for r in self.results)
        told_totals(self.count, firsts, self.before, self.failed)


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
