"""`medge classify`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import cached_property
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
    LabelsOption,
    ResultsOption,
    ThreadsOption,
)
from ..console.terminal import SOME_FAILED, out, print_json, progress, told_stopped, told_totals, warn
from ..console.view_options import FrameOption, WindowOption, view_of

if TYPE_CHECKING:
    from ..console.result_file import ResultFile
    from ..encoder.encoder import Encoder, Score
    from ..encoder.labels import LabelBank
    from ..pictures.view import View
    from ..progress import Progress


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
    to: ResultsOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score images against labels.

    Softmax: which of these labels is it? Sigmoid: does this label hold, whatever the others? A single label has no softmax,
    and CLIP, which was trained to choose among labels, no sigmoid.
    An image that can't be read is named on stderr, the others are scored, and the exit code is 3.

    Example: medge classify bundle film.dcm --label "normal chest x-ray" --label "pneumonia"
    """
    from ..encoder.encoder import load
    from ..encoder.labels import as_prompts, read_labels
    from ..errors import ImageError, LabelError
    from ..pictures.images import find_images

    if label and labels:
        raise LabelError("give --label or --labels, not both")
    view = view_of(frame, window)
    chosen = read_labels(labels) if labels else as_prompts(label) if label else None
    paths = list(find_images(images))
    if not paths:
        raise ImageError("no image found in " + ", ".join(map(str, images)))
    encoder = load(
        bundle, verify=not no_verify, allow_failed_parity=allow_failed_parity, threads=threads, device=device,
        fast=fast,
    )  # fmt: skip
    run = _Run(encoder, _bank(encoder, chosen), view, top, quiet=as_json)
    try:
        with _opened(to, run, force) as file, progress() as advance:
            run.score(paths, file, advance)
    except KeyboardInterrupt:
        told_stopped(run.count, len(paths), to)
    if as_json:
        print_json({"bundle": encoder.manifest.name, "profile": encoder.manifest.profile, "results": run.results,
                    "failed": run.failed})  # fmt: skip
    run.tell_totals()
    if run.failed:
        raise typer.Exit(SOME_FAILED if run.results or run.before else 1)


class _Run:
    """Images being scored: each result is told, written and counted as it comes."""

    def __init__(self, encoder: Encoder, bank: LabelBank, view: View, top: int, *, quiet: bool) -> None:
        self.encoder, self.bank, self.view, self.top, self.quiet = encoder, bank, view, top, quiet
        self.results: list[dict[str, Any]] = []
        self.failed: list[dict[str, str]] = []
        self.before = 0  # images that an earlier run has done

    @cached_property
    def same(self) -> dict[str, str]:
        """What every row of a file of results has in common: two files with these are results of the same question."""
        from ..bundles.manifest import MANIFEST, sha256_file, sha256_json

        bundle = self.encoder.bundle
        asked = [sha256_file(bundle.folder / MANIFEST), list(self.bank.prompts.items()), asdict(self.view)]
        return {"bundle": bundle.manifest.name, "made_with": sha256_json(asked)[:16]}

    @property
    def count(self) -> int:
        return self.before + len(self.results) + len(self.failed)

    def score(self, paths: Sequence[Path], file: ResultFile | None, advance: Progress) -> None:
        from ..console.result_file import image_name

        waiting = list(paths) if file is None else file.missing(paths)
        self.before = len(paths) - len(waiting)
        for source, item in self.encoder.stream_images(waiting, view=self.view):
            image = str(source)
            if isinstance(item, Exception):
                self.failed.append({"image": image, "error": str(item)})
                warn(str(item))
            else:
                scores = self.encoder.score(item[None], self.bank)[0].ranked()
                self.results.append({"image": image, "labels": [asdict(score) for score in scores[: self.top]]})
                if file is not None:
                    file.add(_row(image_name(image), scores, self.same))
                if not self.quiet:
                    _print(image, scores[: self.top])
            advance("images", self.count, len(paths))

    def tell_totals(self) -> None:
        """On stderr, where there was more than one image: how many were taken for what, and how many could not be read."""
        firsts = Counter(result["labels"][0]["label"] for result in self.results)
        told_totals(self.count, firsts if len(self.bank.names) > 1 else {}, self.before, len(self.failed))


def _opened(to: Path | None, run: _Run, force: bool) -> AbstractContextManager[ResultFile | None]:
    from ..console.result_file import ResultFile

    if to is None:
        return nullcontext()
    columns = ["image", *run.same, "best", *map(_column, run.bank.names)]
    return ResultFile(to, columns, key="image", same=run.same, force=force)


def _column(label: str) -> str:
    return f"label {label}" if label in ("image", "bundle", "made_with", "best", "scores") else label


def _row(image: str, scores: Sequence[Score], same: dict[str, str]) -> dict[str, Any]:
    """A result for a file: everything for JSON lines; for a spreadsheet the likeliest label, and each label's probability."""
    shares = {
        _column(score.label): "" if score.probability is None else round(score.probability, 6) for score in scores
    }
    best = scores[0].label if len(scores) > 1 else ""
    return {"image": image, **same, "best": best, **shares, "scores": [asdict(score) for score in scores]}


def _bank(encoder: Encoder, prompts: dict[str, list[str]] | None) -> LabelBank:
    """The embedded labels; a text that is too long is told in one line."""
    import warnings

    from ..encoder.encoder import TextCutWarning

    for cut in encoder.cuts([text for group in prompts.values() for text in group]) if prompts else []:
        warn(str(cut))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextCutWarning)
        return encoder.bank(prompts)


def _print(image: str, scores: Sequence[Score]) -> None:
    """An image's name, and a line for each label."""
    out.print(image, style="bold", soft_wrap=True)
    width = max(len(score.label) for score in scores)
    for score in scores:
        # Of a single label softmax says nothing: what can be told is whether it holds.
        first = f"cosine {score.cosine:.3f}" if score.softmax is None else f"softmax {score.softmax:.3f}"
        if score.sigmoid is not None:
            second = f"sigmoid {score.sigmoid:.3f}"
        else:
            second = "" if score.softmax is None else f"cosine {score.cosine:.3f}"
        line = f"  {score.label:<{width}}  {first}  {second}".rstrip()
        out.print(line, soft_wrap=True)
