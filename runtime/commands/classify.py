"""`medge classify`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from ..console.terminal import cuts_told, err, out
from ..console.view_options import FrameOption, WindowOption, view_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..console.image_run import Outcome
    from ..console.layouts import Columns, Row
    from ..decisions.calibration import Decision
    from ..encoder.encoder import Encoder
    from ..encoder.labels import LabelBank
    from ..pictures.view import View


DECIDED = ("unlike", "kind", "present", "uncertain")  # columns of a file of results, where scores are calibrated
SAYS = len("not calibrated")
NOT_CALIBRATED = (
    "the scores of these labels are not calibrated: they say which is likelier, not how sure that is; "
    "'medge calibrate-scores' sets thresholds for a bundle's own labels"
)


def classify(
    bundle: BundleArgument,
    images: ImagesArgument,
    label: Annotated[list[str] | None, typer.Option(help="A label; repeat it. Without: the bundle's own.")] = None,
    labels: LabelsOption = None,
    top: Annotated[int, typer.Option(min=1, help="Labels to show per image.")] = 3,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--map", help="Folder for a picture of what speaks for the best label; needs a bundle exported with --maps."
        ),
    ] = None,
    map_all: Annotated[bool, typer.Option("--map-all", help="With --map: a picture for every label.")] = False,
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
    Where 'medge calibrate-scores' has set thresholds for the bundle's own labels, each is present, absent or uncertain, and a
    picture unlike all that the bundle was calibrated on is flagged.
    With --map, orange patches speak for the label rather than the others, blue ones against it. That is this model's arithmetic,
    no segmentation and no proof.
    An image that can't be read is named on stderr, the others are scored, and the exit code is 3.

    Example: medge classify bundle film.dcm --label "normal chest x-ray" --label "pneumonia"
    """
    from ..console.image_run import ImageRun, inputs_of
    from ..console.layouts import TABLES
    from ..encoder.labels import as_prompts, read_labels
    from ..encoder.load import load
    from ..errors import LabelError, RecipeError

    if label and labels:
        raise LabelError("give --label or --labels, not both")
    if map_all and maps is None:
        raise RecipeError("--map-all says which maps to write; say where with --map FOLDER")
    view = view_of(frame, window)
    chosen = read_labels(labels) if labels else as_prompts(label) if label else None
    run = ImageRun(inputs_of(images), view, to, TABLES, force=force)
    encoder = load(
        bundle, verify=not no_verify, allow_failed_parity=allow_failed_parity, threads=threads, device=device,
        fast=fast,
    )  # fmt: skip
    bank = _bank(encoder, chosen)
    columns, show = _columns(encoder, bank, view, maps=maps is not None, every=map_all), None if as_json else _print
    if maps is None:
        run.go(encoder, columns, lambda embedding, _: _outcome(encoder, bank, embedding, top), show)
    else:
        from ..console.map_files import MapFiles, MappingEncoder

        mapping, files = MappingEncoder(encoder, bank), MapFiles(maps, map_all, columns.same["made_with"])
        run.go(
            mapping, columns,
            lambda found, name: _with_maps(_outcome(encoder, bank, found.embedding, top), files.write(found, name)), show,
        )  # fmt: skip
    calibrated = encoder.calibrated(bank)
    if not calibrated and not as_json and run.results:
        err.print(f"medge: {NOT_CALIBRATED}", soft_wrap=True)
    facts = {"bundle": encoder.manifest.name, "profile": encoder.manifest.profile, "calibrated": calibrated}
    run.end(facts if as_json else None)


def _with_maps(outcome: Outcome, files: dict[str, str]) -> Outcome:
    """The same with the files of its maps, for JSON."""
    return replace(outcome, result={**outcome.result, "maps": files}, fields={**outcome.fields, "maps": files})


def _columns(encoder: Encoder, bank: LabelBank, view: View, *, maps: bool, every: bool) -> Columns:
    """Of a file of results; two files with the same `made_with` are results of the same question."""
    from ..bundles.manifest import MANIFEST, sha256_file, sha256_json
    from ..console.layouts import Columns

    asked = [sha256_file(encoder.bundle.folder / MANIFEST), list(bank.prompts.items()), asdict(view)]
    if maps:
        asked.append({"maps": "every" if every else "best"})
    same = {"bundle": encoder.manifest.name, "made_with": sha256_json(asked)[:16]}
    decided = DECIDED if encoder.calibration is not None else ()
    return Columns("image", same, ("best", *decided), tuple(map(_column, bank.names)), taken_for=_taken_for)


def _taken_for(row: Row) -> str:
    """The label that a row's image was taken for; "" of a single label."""
    return "unlike all" if row.get("unlike") == "yes" else str(row.get("best") or "")


def _column(label: str) -> str:
    taken = label in ("image", "bundle", "made_with", "best", "scores", "decision", "maps", *DECIDED)
    return f"label {label}" if taken else label


def _outcome(encoder: Encoder, bank: LabelBank, embedding: NDArray[np.float32], top: int) -> Outcome:
    """An image's scores: everything for JSON lines; for a table the likeliest label, and each label's probability."""
    from ..console.image_run import Outcome

    [found] = encoder.score(embedding[None], bank)
    scores, decision = found.ranked(), found.decision
    shares = {
        _column(score.label): None if score.probability is None else round(score.probability, 6) for score in scores
    }
    best = scores[0].label if len(scores) > 1 else ""
    listed = [asdict(score) for score in scores]
    decided = None if decision is None else asdict(decision)
    fields = {"best": best, **_decided(decision), **shares, "scores": listed, "decision": decided}
    return Outcome({"labels": listed[:top], "decision": decided}, fields)


def _decided(decision: Decision | None) -> dict[str, str]:
    """The columns of texts that say what was decided, where scores are calibrated."""
    if decision is None:
        return {}
    said = {word: "|".join(f.label for f in decision.findings if f.says == word) for word in ("present", "uncertain")}
    return {"unlike": "yes" if decision.unlike else "no", "kind": decision.kind, **said}


def _bank(encoder: Encoder, prompts: dict[str, list[str]] | None) -> LabelBank:
    """The embedded labels; a text that is too long is told in one line."""
    with cuts_told(encoder, [text for group in (prompts or {}).values() for text in group]):
        return encoder.bank(prompts)


def _print(result: Row) -> None:
    """An image's name, and a line for each label."""
    from ..decisions.calibration import UNLIKE

    out.print(result["image"], style="bold", soft_wrap=True)
    scores, decision = result["labels"], result["decision"]
    if decision is not None and decision["unlike"]:
        out.print(f"  {UNLIKE}: the scores say nothing", style="bold", soft_wrap=True)
    says = {one["label"]: one["says"] for one in decision["findings"]} if decision is not None else {}
    width = max(len(score["label"]) for score in scores)
    for score in scores:
        # Of a single label softmax says nothing: what can be told is whether it holds.
        cosine = f"cosine {score['cosine']:.3f}"
        first = cosine if score["softmax"] is None else f"softmax {score['softmax']:.3f}"
        second = "" if score["softmax"] is None else cosine
        if score["sigmoid"] is not None:
            second = f"sigmoid {score['sigmoid']:.3f}"
        said = f"{says[score['label']]:<{SAYS}}  " if says else ""
        line = f"  {score['label']:<{width}}  {said}{first}  {second}".rstrip()
        out.print(line, soft_wrap=True)
    for label, file in result.get("maps", {}).items():
        out.print(f"  map of {label}: {file}", soft_wrap=True)
