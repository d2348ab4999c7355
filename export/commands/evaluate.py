"""`medge evaluate`: in this room because it takes checkpoints, too; for a bundle it needs no extra."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...runtime.console.generator_options import CacheOption, ContextOption, GpuLayersOption
from ...runtime.console.options import (
    AllowFailed,
    DeviceOption,
    ForceOption,
    JsonOption,
    MarginOption,
    ThreadsOption,
)  # fmt: skip
from ...runtime.errors import MissingExtraError
from ...runtime.pictures.preprocess import PROFILES
from .options import WorkersOption, one_of

if TYPE_CHECKING:
    from ...runtime.commands.evaluation.subject import Candidate, Model
    from ...runtime.evaluation.readings.reading import Reader
    from ..jobs.ray_pictures import RayPictures


def _list(wanted: bool) -> None:
    """Print the tasks, and end."""
    if not wanted:
        return
    from ...runtime.console.terminal import out
    from ...runtime.evaluation.task import read_task, task_names

    for name in task_names():
        out.print(f"{name:<24}{read_task(name).task.title}", soft_wrap=True)
    raise typer.Exit


ModelArgument = Annotated[Path, typer.Argument(help="The bundle folder, or a checkpoint folder.", show_default=False)]
TaskOption = Annotated[str, typer.Option(help="A task by its name, or a .toml file of your own.", show_default=False)]
DataOption = Annotated[Path, typer.Option(help="The folder into which the data were unpacked.", show_default=False)]
MethodOption = Annotated[
    str | None,
    typer.Option(
        help="Of images zero-shot, or probe: logistic regression on 1, 5, 10 and 100% of the labels; of a language model ask. "
        "Of questions step-by-step, or likelihood of the options' letters; about images short-answer, over records record; "
        "of reports report.",
        show_default="the first",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="The folder to write.", show_default="evaluations/TASK-MODEL-METHOD")
]
AgainstOption = Annotated[
    Path | None,
    typer.Option(
        help="Evaluate this bundle or checkpoint as well, into TASK-MODEL-METHOD beside the folder of MODEL, and compare: "
        "the differences are MODEL's minus its.",
        show_default=False,
    ),
]
CheckpointProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help=f"Preprocessing of an encoder's checkpoint: {', '.join(PROFILES)}.",
        show_default="that of the bundle beside it, or the usual one",
    ),
]
EngineOption = Annotated[
    str, typer.Option(help="Who takes images through an encoder: local, or ray for a large archive.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="A Ray cluster; MODEL, --data and --out must be places that all its machines see.", show_default="here"
    ),
]
CheXbertOption = Annotated[
    Path | None,
    typer.Option(
        help="Have CheXbert read the reports: the folder of chexbert.pth and bert-base-uncased.", show_default=False
    ),
]
RadGraphOption = Annotated[
    Path | None,
    typer.Option(
        help="Have RadGraph read the reports: the folder of its unpacked archive, and bert.", show_default=False
    ),
]
ItemsOption = Annotated[
    str | None,
    typer.Option(
        help="Form of the file of items: parquet, csv or jsonl.", show_default="parquet where it is installed"
    ),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(help="Prompts of your own in place of the task's: JSON {label: \\[prompts]}.", show_default=False),
]
DrawnOption = Annotated[int | None, typer.Option(min=1, help="Evaluate, and train on, so many, drawn at random.")]
DrawSeedOption = Annotated[int, typer.Option(min=0, help="Of that draw.")]
NoNamesOption = Annotated[bool, typer.Option("--no-names", help="Write hashes in place of names of files and groups.")]
ListOption = Annotated[bool, typer.Option("--list", callback=_list, is_eager=True, help="List the tasks, and end.")]


def evaluate(
    model: ModelArgument, task: TaskOption, data: DataOption, method: MethodOption = None, to: OutOption = None,
    against: AgainstOption = None, margin: MarginOption = None, items: ItemsOption = None, labels: PromptsOption = None,
    limit: DrawnOption = None, seed: DrawSeedOption = 0, no_names: NoNamesOption = False, list_tasks: ListOption = False,
    profile: CheckpointProfileOption = None, context: ContextOption = None, threads: ThreadsOption = None,
    gpu_layers: GpuLayersOption = None, cache: CacheOption = "f16", device: DeviceOption = "auto", force: ForceOption = False,
    allow_failed_parity: AllowFailed = False, engine: EngineOption = "local", address: AddressOption = None,
    workers: WorkersOption = 1, chexbert: CheXbertOption = None, radgraph: RadGraphOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Evaluate a bundle or a checkpoint on a public medical set, or on labelled images of your own, from a local copy.

    Encoders score images; language models answer questions, are asked for findings, and write reports. Nothing is downloaded.
    A checkpoint is run in full precision by PyTorch (pip install 'medge\\[export]'), on the same images, prompts and
    preprocessing: with --against it says what a bundle lost.
    The folder of --out gets a row an item (items.parquet, .csv or .jsonl), metrics.json: figures with 95% intervals, over
    patients where the data name them, by label and by subgroup, and a page of both. With --against it gets comparison.json and
    its page, too: the differences to another model, paired item by item. Interrupted, the same command goes on. What a task
    asks, and which published protocol it follows: docs/reference/tasks.md.
    With --chexbert and --radgraph, models that you have downloaded say how right written reports are, in a finished run as well.
    With --engine ray, encoders embed images in --workers processes or on a cluster (pip install 'medge\\[ray]').

    Example: medge evaluate bundle --task folder --data held-back/ --items csv
    """
    from ...runtime.commands.evaluation.evaluate import Wanted
    from ...runtime.commands.evaluation.evaluate import evaluate as evaluate_all
    from ..distill.job import ENGINES
    from ..jobs.checkpoint_folder import candidates, is_checkpoint
    from ..jobs.ray_pictures import RayPictures
    from ..report_readers.chexbert import CheXbertFolder
    from ..report_readers.radgraph import RadGraphFolder

    readers: list[Reader] = [CheXbertFolder(chexbert)] if chexbert else []
    readers += [RadGraphFolder(radgraph)] if radgraph else []
    folders = [model] if against is None else [model, against]
    if profile is not None and not any(map(is_checkpoint, folders)):
        raise typer.BadParameter("--profile is for a checkpoint; a bundle is used with its own")
    by_ray = one_of(engine, ENGINES, "--engine") == "ray"
    if by_ray:
        if find_spec("ray") is None:  # told before a model is opened
            raise MissingExtraError("ray", "ray")
        data = data.absolute()  # Ray's processes may stand elsewhere
        folders = [folder.absolute() for folder in folders]
    first, *others = candidates(
        folders, threads=threads, device=device, allow_failed_parity=allow_failed_parity, profile=profile
    )
    wanted = Wanted(
        task=task, data=data, method=method, out=to, margin=margin, form=items, labels=labels, limit=limit, seed=seed,
        no_names=no_names, context=context, gpu_layers=gpu_layers, cache=cache,
        readers=tuple(readers), force=force, as_json=as_json,
    )  # fmt: skip

    def ray(candidate: Candidate, opened: Model, place: Path) -> RayPictures:
        return RayPictures(candidate, opened.identity, place, address, workers)

    evaluate_all(first, others[0] if others else None, wanted, ray if by_ray else None)
