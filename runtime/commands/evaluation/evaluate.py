"""`medge evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ...console.options import AllowFailed, BundleArgument, DeviceOption, ForceOption, JsonOption, ThreadsOption

if TYPE_CHECKING:
    from .pictures import Method


def _list(wanted: bool) -> None:
    """Print the tasks, and end."""
    if not wanted:
        return
    from ...console.terminal import out
    from ...evaluation.task import read_task, task_names

    for name in task_names():
        out.print(f"{name:<24}{read_task(name).task.title}", soft_wrap=True)
    raise typer.Exit


def evaluate(
    bundle: BundleArgument,
    task: Annotated[str, typer.Option(help="A task by its name, or a .toml file of your own.", show_default=False)],
    data: Annotated[Path, typer.Option(help="The folder into which the data were unpacked.", show_default=False)],
    method: Annotated[
        str,
        typer.Option(help="zero-shot by prompts, or probe: logistic regression on 1, 5, 10 and 100% of the labels."),
    ] = "zero-shot",
    to: Annotated[
        Path | None,
        typer.Option("--out", help="The folder to write.", show_default="evaluations/TASK-BUNDLE, or -probe"),
    ] = None,
    items: Annotated[
        str | None,
        typer.Option(
            help="Form of the file of items: parquet, csv or jsonl.", show_default="parquet where it is installed"
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Prompts of your own in place of the task's: JSON {label: \\[prompts]}.", show_default=False),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Evaluate, and train on, so many, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of that draw.")] = 0,
    no_names: Annotated[
        bool, typer.Option("--no-names", help="Write hashes in place of names of files and groups.")
    ] = False,
    list_tasks: Annotated[
        bool, typer.Option("--list", callback=_list, is_eager=True, help="List the tasks, and end.")
    ] = False,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    allow_failed_parity: AllowFailed = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a bundle on a public medical set, or on labelled images of your own, from a local copy.

    Of encoders (MedSigLIP, CLIP). Nothing is downloaded. The folder of --out gets a row an item (items.parquet, .csv or .jsonl)
    and metrics.json: figures with 95% intervals over patients where the data name them, by label and by subgroup. Interrupted,
    the same command goes on. What a task asks, and which published protocol it follows: docs/reference/tasks.md.

    Example: medge evaluate bundle --task folder --data held-back/ --items csv
    """
    from ...console.view_options import view_of
    from ...encoder.encoder import load
    from ...encoder.labels import read_labels
    from ...evaluation.task import read_task
    from .pictures import Asked, evaluate_pictures

    if method not in ("zero-shot", "probe"):
        raise typer.BadParameter(f"'{method}' is no method: zero-shot, or probe", param_hint="--method")
    if method == "probe" and labels:
        raise typer.BadParameter("--labels are prompts, which a probe does not read")
    named = read_task(task)
    own = read_labels(labels) if labels else None
    encoder = load(bundle, allow_failed_parity=allow_failed_parity, threads=threads, device=device)
    ending = "-probe" if method == "probe" else ""
    place = to or Path("evaluations") / f"{named.name}-{encoder.manifest.name}{ending}"
    asked = Asked(
        named,
        data,
        place,
        cast("Method", method),
        items,
        own,
        str(labels) if labels else "",
        limit,
        seed,
        no_names,
        force,
    )
    evaluate_pictures(encoder, asked, view_of(None, None), as_json=as_json)
