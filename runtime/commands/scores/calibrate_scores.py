"""`medge calibrate-scores`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ...console.options import AllowFailed, BundleArgument, DeviceOption, ForceOption, JsonOption, ThreadsOption

DataOption = Annotated[
    Path, typer.Option(help="Labelled images, used for nothing else: a folder a label.", show_default=False)
]
TaskOption = Annotated[
    str, typer.Option(help="How the data lie: a task of 'medge evaluate --list', or a .toml file of your own.")
]
SensitivityOption = Annotated[
    float | None,
    typer.Option(
        min=0.5,
        max=0.999,
        help="Share of the images with a label that are not called absent.",
        show_default="0.9, as the specificity",
    ),
]
SpecificityOption = Annotated[
    float | None,
    typer.Option(
        min=0.5,
        max=0.999,
        help="Share of the images without it that are not called present. Of one of the two alone, nothing is uncertain.",
        show_default="0.9, as the sensitivity",
    ),
]
CoverageOption = Annotated[
    float, typer.Option(min=0.5, max=0.999, help="Share of the images whose true label is among the likely ones.")
]
KnownOption = Annotated[
    float, typer.Option(min=0.5, max=0.999, help="Share of images like these that are not flagged as unlike.")
]
KindsOption = Annotated[
    Path | None,
    typer.Option(
        help="Kinds of picture that get thresholds of their own: JSON {kind: \\[labels]}.", show_default=False
    ),
]
KindColumnOption = Annotated[
    str | None,
    typer.Option(help="Likewise by a column of the task's table, such as view.", show_default=False),
]
KeepOption = Annotated[
    Path | None,
    typer.Option(help="Keep embeddings in this .safetensors file, to go on after Ctrl-C.", show_default=False),
]
OtherOption = Annotated[
    Path | None,
    typer.Option(help="Show what this bundle's thresholds would give here: another recipe's scores are other numbers."),
]


def calibrate_scores(
    bundle: BundleArgument, data: DataOption, task: TaskOption = "folder",
    sensitivity: SensitivityOption = None, specificity: SpecificityOption = None,
    coverage: CoverageOption = 0.9, known: KnownOption = 0.97,
    kinds: KindsOption = None, kind_column: KindColumnOption = None, embeddings: KeepOption = None,
    against: OtherOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use so many images, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of that draw, and of the three parts.")] = 0,
    threads: ThreadsOption = None, device: DeviceOption = "auto", force: ForceOption = False,
    allow_failed_parity: AllowFailed = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Set thresholds for a bundle's labels, and flag pictures unlike all that it was calibrated on.

    Afterwards 'medge classify' says present, absent or uncertain for each label that is baked into the bundle, and "unlike
    anything this bundle was calibrated on". Two fifths of the images, drawn by patient, fit temperature and density, two fifths
    set the thresholds, and the rest shows what they give. Where the data have a training side, it alone is used.
    Some hundreds of images a kind are needed. The file belongs to this bundle: another recipe needs its own.

    Example: medge calibrate-scores bundle --data labelled/
    """
    from ...bundles.atomic import refuse_existing
    from ...console.image_run import end_with
    from ...console.terminal import of_many, out, print_json
    from ...console.view_options import view_of
    from ...decisions.calibration import FILE
    from ...decisions.facts import Wanted
    from ...encoder.load import load
    from ...encoder.score_calibration import borrowed, fit_scores, put_scores
    from .gather import embed, gather, labelled_of
    from .told import tell

    if sensitivity is None and specificity is None:
        sensitivity = specificity = 0.9
    refuse_existing(bundle / FILE, force=force)
    gathered = gather(task, data, kinds, kind_column, limit, seed)
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, threads=threads, device=device)
    other = load(against, allow_failed_parity=True) if against else None
    run, rows = embed(encoder, gathered.items, embeddings, view_of(None, None), force=force)
    images = labelled_of(encoder, gathered, rows)
    wanted = Wanted(sensitivity, specificity, coverage, known)
    fitted = fit_scores(encoder, images, wanted, gathered.source, seed)
    compared = None if other is None else borrowed(other, images, seed)
    put_scores(encoder.bundle, fitted)
    many = of_many(run.failed, done=len(run.results), before=run.before)
    if as_json:
        other_facts = compared and asdict(compared.facts)
        print_json({"bundle": encoder.manifest.name, "scores": asdict(fitted.facts), "against": other_facts, **many})
    else:
        tell(fitted.facts)
        if compared is not None and against is not None:
            tell(compared.facts, f"with the thresholds of {against.name}, which are not for these scores")
        out.print(f"{bundle / FILE} is written: classify and Python use it from now on", soft_wrap=True)
    end_with(run.failed, done=run.before + len(run.results))
