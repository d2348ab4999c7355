"""`medge evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ...console.generator_options import ContextOption, GpuLayersOption, opened
from ...console.options import (
    AllowFailed,
    BundleArgument,
    DeviceOption,
    ForceOption,
    JsonOption,
    MarginOption,
    ThreadsOption,
)  # fmt: skip

if TYPE_CHECKING:
    from ...evaluation.task import Named, NamedQuestions
    from .generator.questions import QuestionMethod
    from .given import Finished
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
    Path | None, typer.Option("--out", help="The folder to write.", show_default="evaluations/TASK-BUNDLE-METHOD")
]
AgainstOption = Annotated[
    Path | None,
    typer.Option(
        help="Evaluate this bundle as well, into TASK-BUNDLE-METHOD beside the folder of BUNDLE, and compare: "
        "the differences are BUNDLE's minus its.",
        show_default=False,
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
    bundle: BundleArgument, task: TaskOption, data: DataOption, method: MethodOption = None, to: OutOption = None,
    against: AgainstOption = None, margin: MarginOption = None, items: ItemsOption = None, labels: PromptsOption = None,
    limit: DrawnOption = None, seed: DrawSeedOption = 0, no_names: NoNamesOption = False, list_tasks: ListOption = False,
    context: ContextOption = None, threads: ThreadsOption = None, gpu_layers: GpuLayersOption = None,
    device: DeviceOption = "auto", force: ForceOption = False, allow_failed_parity: AllowFailed = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Evaluate a bundle on a public medical set, or on labelled images of your own, from a local copy.

    Encoders score images; language models answer questions, are asked for findings, and write reports. Nothing is downloaded.
    The folder of --out gets a row an item (items.parquet, .csv or .jsonl), metrics.json: figures with 95% intervals, over
    patients where the data name them, by label and by subgroup, and a page of both. With --against it gets comparison.json and
    its page, too: the differences to another bundle, paired item by item. Interrupted, the same command goes on. What a task
    asks, and which published protocol it follows: docs/reference/tasks.md.

    Example: medge evaluate bundle --task folder --data held-back/ --items csv
    """
    from ...console.terminal import out, print_json
    from ...console.view_options import view_of
    from ...device.memory import forget_peak
    from ...encoder.encoder import load
    from ...encoder.labels import read_labels
    from ...evaluation.task import ASK, NamedQuestions
    from .by_probe import score_by_probe
    from .comparison.against import compare_both, places_of
    from .generator.findings import AskedFindings, evaluate_findings
    from .generator.questions import AskedQuestions, evaluate_questions
    from .page import PAGE, page_of, write_pages
    from .pictures import Asked, evaluate_pictures
    from .zero_shot import score_zero_shot

    named, chosen = _task_and_method(bundle, task, method)
    if labels and chosen != "zero-shot":
        raise typer.BadParameter("--labels are prompts for images, which are read zero-shot only")
    own = read_labels(labels) if labels else None
    places = places_of(bundle, against, to, f"{named.name}-{{}}-{chosen}", allow_failed_parity=allow_failed_parity)

    def run(folder: Path, place: Path) -> Finished:
        given: dict[str, Any] = {
            "data": data, "place": place, "form": items, "limit": limit, "seed": seed, "no_names": no_names, "force": force,
            "counts_memory": forget_peak() or place == places[0],  # the second's peak may be the first's
        }  # fmt: skip
        if isinstance(named, NamedQuestions) or chosen == ASK:
            with opened(
                folder, context=context, threads=threads, gpu_layers=gpu_layers, isolate=False,
                allow_failed_parity=allow_failed_parity,
            ) as reader:  # fmt: skip
                if isinstance(named, NamedQuestions):
                    questions = AskedQuestions(named=named, method=cast("QuestionMethod", chosen), **given)
                    return evaluate_questions(reader, questions)
                return evaluate_findings(reader, AskedFindings(named=named, **given))
        encoder = load(folder, allow_failed_parity=allow_failed_parity, threads=threads, device=device)
        asked = Asked(named=named, method=cast("Method", chosen), own=own, own_file=str(labels or ""), **given)
        return evaluate_pictures(
            encoder, asked, score_by_probe if chosen == "probe" else score_zero_shot, view_of(None, None)
        )

    finished = run(bundle, places[0])
    if against is not None:
        compare_both(finished, run(against, places[1]), margin, as_json=as_json)
        return
    page = finished.place / PAGE
    written = write_pages({page: page_of(finished)})
    if as_json:
        told = {"out": str(finished.place), "page": str(page) if written else None}
        print_json({**finished.facts, **told, **finished.many})
    elif "figures" in finished.facts:
        finished.tell()
        if written:
            out.print(f"page: {page}", soft_wrap=True)
    finished.end()


def _task_and_method(bundle: Path, task: str, method: str | None) -> tuple[Named | NamedQuestions, str]:
    """The task, and the method that was asked for, or the first that this kind of bundle has for it."""
    from ...bundles.manifest import Manifest
    from ...errors import TaskError
    from ...evaluation.task import ASK, IMAGE_METHODS, QUESTION_METHODS, NamedQuestions, read_task

    named = read_task(task)
    if isinstance(named, NamedQuestions):
        methods = QUESTION_METHODS[named.task.form]
    elif Manifest.read(bundle).kind == "encoder":
        methods = IMAGE_METHODS
    elif named.task.ask is not None:
        methods = (ASK,)
    else:
        raise TaskError(
            f"{bundle} is a language model, and the task '{named.name}' has no prompt for one: give an encoder, or a task of "
            'your own with "ask"'
        )
    chosen = method or methods[0]
    if chosen not in methods:
        raise typer.BadParameter(f"'{chosen}' is no method of this task: {' or '.join(methods)}", param_hint="--method")
    return named, chosen
