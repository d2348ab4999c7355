"""Evaluate what lies in a folder on a task, alone or against another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import typer

from ...bundles.manifest import KindName
from ...console.terminal import out, print_json
from ...console.view_options import view_of
from ...device.memory import forget_peak
from ...encoder.labels import read_labels
from ...errors import TaskError
from ...evaluation.readings.reading import Reader
from ...evaluation.task import ASK, IMAGE_METHODS, QUESTION_METHODS, Named, NamedQuestions, read_task
from ...generator.cache import CacheName
from ...generator.planner import Opening
from .by_probe import score_by_probe
from .comparison.against import compare_both, places_of
from .generator.findings import AskedFindings, evaluate_findings
from .generator.questions import AskedQuestions, QuestionMethod, evaluate_questions
from .given import Finished
from .page import PAGE, page_of, write_pages
from .pictures import Asked, Method, evaluate_pictures
from .subject import Candidate, Engine
from .zero_shot import score_zero_shot


@dataclass(frozen=True)
class Wanted:
    """What a user wants of an evaluation.

    Attributes:
        task: its name, or a file.
        data: where the data lie.
        method: how it is asked; the first that there is where None.
        out: the folder to write, or None.
        margin: the loss of the main figure that can be borne, or None.
        form: of the file of items, or None.
        labels: a file of prompts in place of the task's, or None.
        limit: how many items; all where None.
        seed: of what is drawn.
        no_names: whether names are hashed.
        context: tokens that a language model makes room for; what fits where None.
        gpu_layers: of it on a GPU; as many as fit where None.
        cache: what its keys and values are kept in.
        readers: models that read the reports which a language model has written.
        force: begin anew.
        as_json: print JSON.
    """

    task: str
    data: Path
    method: str | None
    out: Path | None
    margin: float | None
    form: str | None
    labels: Path | None
    limit: int | None
    seed: int
    no_names: bool
    context: int | None
    gpu_layers: int | None
    cache: str
    readers: tuple[Reader, ...]
    force: bool
    as_json: bool


def evaluate(
    first: Candidate, second: Candidate | None, wanted: Wanted, engine: Engine | None = None
) -> None:  # fmt: skip
    """Evaluate, write, and tell what came of it.

    Args:
        first: what is evaluated.
        second: what it is compared with, or None.
        wanted: how, and on what.
        engine: what takes pictures through encoders; this process where None.

    Raises:
        MedgeError: any of its kinds; what is written by then, the next run goes on with.
        typer.BadParameter: the method is not one of the task.
        typer.Exit: after Ctrl-C, or where an image could not be read.
    """
    if engine is not None and first.kind != "encoder":
        raise TaskError(f"{first.folder} is a language model; only encoders are evaluated by Ray: leave --engine out")
    named, chosen = _task_and_method(first, wanted.task, wanted.method)
    if wanted.labels and chosen != "zero-shot":
        raise typer.BadParameter("--labels are prompts for images, which are read zero-shot only")
    for candidate in (first, second) if second is not None else (first,):
        if why := candidate.unfit(chosen):
            raise TaskError(why)
    for reader in wanted.readers:
        if named.task.form != "reports":
            raise typer.BadParameter(f"--{reader.name} reads reports, and the task '{named.name}' asks for none")
        reader.check()
    own = read_labels(wanted.labels) if wanted.labels else None
    places = places_of(first, second, wanted.out, f"{named.name}-{{}}-{chosen}")

    def run(candidate: Candidate, place: Path) -> Finished:
        given: dict[str, Any] = {
            "data": wanted.data, "place": place, "form": wanted.form, "limit": wanted.limit, "seed": wanted.seed,
            "no_names": wanted.no_names, "force": wanted.force,
            # The second's peak may be the first's, or a reader's; what others take is not known.
            "counts_memory": engine is None and (forget_peak() or (place == places[0] and not wanted.readers)),
        }  # fmt: skip
        if isinstance(named, NamedQuestions) or chosen == ASK:
            cache = cast("CacheName", wanted.cache)
            with candidate.language(Opening(wanted.context, candidate.threads, wanted.gpu_layers, cache)) as model:
                if isinstance(named, NamedQuestions):
                    questions = AskedQuestions(
                        named=named, method=cast("QuestionMethod", chosen), readers=wanted.readers, **given
                    )
                    return evaluate_questions(model, questions)
                return evaluate_findings(model, AskedFindings(named=named, **given))
        asked = Asked(named=named, method=cast("Method", chosen), own=own, own_file=str(wanted.labels or ""), **given)
        score = score_by_probe if chosen == "probe" else score_zero_shot
        subject = candidate.open()
        if engine is not None:
            subject = replace(subject, through=engine(candidate, subject.model, place))
        return evaluate_pictures(subject, asked, score, view_of(None, None))

    finished = run(first, places[0])
    if second is not None:
        compare_both(finished, run(second, places[1]), wanted.margin, as_json=wanted.as_json)
    else:
        _tell(finished, as_json=wanted.as_json)


def _tell(finished: Finished, *, as_json: bool) -> None:
    """Write the page of a run that stands alone, and print its figures.

    Raises:
        typer.Exit: an image could not be read.
    """
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


def _task_and_method(candidate: Candidate, task: str, method: str | None) -> tuple[Named | NamedQuestions, str]:
    """The task, and the method that was asked for, or the first that this kind of model has for it."""
    named = read_task(task)
    methods = _methods(candidate.folder, candidate.kind, named)
    chosen = method or methods[0]
    if chosen not in methods:
        raise typer.BadParameter(f"'{chosen}' is no method of this task: {' or '.join(methods)}", param_hint="--method")
    return named, chosen


def _methods(folder: Path, kind: KindName, named: Named | NamedQuestions) -> tuple[str, ...]:
    """How a task can be asked of a kind of model.

    Raises:
        TaskError: it can't.
    """
    if isinstance(named, NamedQuestions):
        if kind == "encoder":
            raise TaskError(
                f"{folder} is an encoder, and the task '{named.name}' asks questions: give a language model, or a task "
                "of images"
            )
        return QUESTION_METHODS[named.task.form]
    if kind == "encoder":
        return IMAGE_METHODS
    if named.task.ask is None:
        raise TaskError(
            f"{folder} is a language model, and the task '{named.name}' has no prompt for one: give an encoder, or a task of "
            'your own with "ask"'
        )
    return (ASK,)
