"""Tasks: what a model is evaluated on. A task is a file of `tasks/`, or one of your own; nothing of it is code.

`layouts` holds the few forms in which data lie. A task names one of them, and says which column or folder holds what.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

from ..bundles.typed_json import build
from ..encoder.labels import DEFAULT_TEMPLATES
from ..errors import TaskError, one_line
from ..written_text import read_written
from .items import Found, FoundQuestions
from .layouts.choices import Choices
from .layouts.class_folders import ClassFolders
from .layouts.hdf5 import HDF5
from .layouts.image_questions import ImageQuestions
from .layouts.record_questions import RecordQuestions
from .layouts.reports import IUReports, MIMICReports
from .layouts.table import Table

Form = Literal["one label", "findings"]
QuestionForm = Literal["multiple choice", "image questions", "record questions", "reports"]
IMAGE_METHODS = ("zero-shot", "probe")  # of encoders
ASK = "ask"  # the method of language models that are asked for findings
QUESTION_METHODS: dict[QuestionForm, tuple[str, ...]] = {
    "multiple choice": ("step-by-step", "likelihood"), "image questions": ("short-answer",), "record questions": ("record",),
    "reports": ("report",),
}  # fmt: skip
# The figure by which a form of tasks is known.
_HEADLINES: dict[Form | QuestionForm, str] = {
    "one label": "macro_auc", "findings": "macro_auc", "multiple choice": "accuracy", "image questions": "token_f1",
    "record questions": "accuracy", "reports": "bleu",
}  # fmt: skip
# What stands in the prompts of a form, once each.
_MARKS = {
    "multiple choice": ("{question}", "{options}"), "image questions": ("{question}",), "record questions": ("{question}",),
    "reports": (),
}  # fmt: skip


def headline_of(form: Form | QuestionForm, method: str) -> str:
    """The figure by which a task is known that was asked in this way: answers of yes and no rank nothing."""
    return "macro_f1" if method == ASK else _HEADLINES[form]


class Layout(Protocol):
    """A form in which data lie, with what a task says of it."""

    def read(self, folder: Path, task: str, labels: Mapping[str, str]) -> Found:
        """The items of a folder.

        Args:
            folder: where the data lie.
            task: its name, for errors.
            labels: {how the data write it: label}; empty where the data say what the labels are.

        Raises:
            TaskError: the folder does not hold such data.
        """
        ...


class QuestionLayout(Protocol):
    """A form in which questions lie."""

    def read(self, folder: Path, task: str) -> FoundQuestions:
        """The questions of a folder.

        Args:
            folder: where the data lie.
            task: its name, for errors.

        Raises:
            TaskError: the folder does not hold such questions.
        """
        ...


LAYOUTS: dict[str, type[Any]] = {"table": Table, "class folders": ClassFolders, "hdf5": HDF5}
QUESTION_LAYOUTS: dict[str, dict[str, type[Any]]] = {
    "multiple choice": {"choices": Choices}, "image questions": {"image questions": ImageQuestions},
    "record questions": {"record questions": RecordQuestions},
    "reports": {"mimic reports": MIMICReports, "iu reports": IUReports},
}  # fmt: skip


@dataclass(frozen=True)
class Label:
    """What a model is asked for a label.

    Attributes:
        texts: what stands in the templates' braces.
        value: how the data write the label, where that is not its name.
    """

    texts: tuple[str, ...]
    value: str = ""


@dataclass(frozen=True)
class Ask:
    """How a language model is asked for findings, one after the other, each about the image anew.

    Attributes:
        prompt: what is asked; {} is the finding's first text.
        prompts_from: where the wording is published; or that it is medge's own.
        protocol: how answers are read, and what of it is medge's choice.
        limit: most tokens of an answer.
    """

    prompt: str
    prompts_from: str
    protocol: str
    limit: int = 64


@dataclass(frozen=True)
class Task:
    """What a file of `tasks/` says.

    Attributes:
        title: one line.
        form: "one label" where each picture has exactly one of the labels, "findings" where each label holds or doesn't.
        source: the set, its paper, and its licence.
        prompts_from: where the wording of the prompts is published; or that it is medge's own.
        protocol: how pictures, splits, labels and scores are treated, and what of it is medge's choice.
        absent: what of the published evaluation this is not; "" where there is nothing to say.
        templates: of prompts; {} is a label's text. The embeddings of all are averaged.
        without: of a finding, templates that say that it is not there.
        labels: {label: what is asked}; empty where the data say what the labels are.
        groups: what items of one group share: "patient", "lesion", "slide"; intervals are over these.
        ordinal: whether the labels are grades, in their order: then kappa with quadratic weights is told as well.
        ask: of findings, how a language model is asked for them; None where it is not.
    """

    title: str
    form: Form
    source: str
    prompts_from: str
    protocol: str
    absent: str = ""
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    without: tuple[str, ...] = ()
    labels: dict[str, Label] = field(default_factory=dict)
    groups: str = ""
    ordinal: bool = False
    ask: Ask | None = None

    def prompts(self, label: str) -> list[str]:
        """What says that a label holds."""
        return [template.format(text) for text in self._texts(label) for template in self.templates]

    def prompts_without(self, label: str) -> list[str]:
        """What says that a finding is not there."""
        return [template.format(text) for text in self._texts(label) for template in self.without]

    def question(self, label: str) -> str:
        """What a language model is asked for a finding."""
        assert self.ask is not None  # the method is refused where it is
        return self.ask.prompt.replace("{}", self._texts(label)[0])

    def _texts(self, label: str) -> tuple[str, ...]:
        return self.labels[label].texts if label in self.labels else (label,)

    @property
    def values(self) -> dict[str, str]:
        """{how the data write it: label}."""
        return {label.value or name: name for name, label in self.labels.items()}


@dataclass(frozen=True)
class QuestionTask:
    """What a file of `tasks/` says of questions that are put to language models.

    Attributes:
        title: one line.
        form: "multiple choice"; "image questions", which have an answer of a word or a few; "record questions", over patients'
            records; or "reports", which are to be written of images.
        source: the set, its paper, and its licence.
        prompts_from: where the wording of the prompts is published; or that it is medge's own.
        protocol: how questions, splits and answers are treated, and what of it is medge's choice.
        prompts: {method: prompt}; {question} and {options} are put in. The methods are "step-by-step" and "likelihood"; of image
            questions "short-answer", without options; of record questions "record", whose prompt begins with the question; of
            reports "report", without either.
        absent: what of the published evaluation this is not; "" where there is nothing to say.
        limit: most tokens of an answer.
    """

    title: str
    form: QuestionForm
    source: str
    prompts_from: str
    protocol: str
    prompts: dict[str, str]
    absent: str = ""
    limit: int = 2048


@dataclass(frozen=True)
class Named:
    """A task of pictures with its name and the layout of its data."""

    name: str
    task: Task
    layout: Layout


@dataclass(frozen=True)
class NamedQuestions:
    """A task of questions with its name and the layout of its data."""

    name: str
    task: QuestionTask
    layout: QuestionLayout


def task_names() -> list[str]:
    """The tasks that come with medge."""
    folder = resources.files(__package__) / "tasks"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_task(name: str) -> Named | NamedQuestions:
    """A task that comes with medge, or one of your own.

    Args:
        name: one of `task_names`, or the path of a `.toml` file.

    Raises:
        TaskError: there is no such task, or its file is not as it should be.
    """
    own = Path(name)
    if own.suffix == ".toml":
        return parse_task(own.stem, read_written(own, TaskError), name)
    if name not in task_names():
        raise TaskError(
            f"there is no task '{one_line(name, 80)}'; give a .toml file, or one of {', '.join(task_names())}"
        )
    file = resources.files(__package__) / "tasks" / f"{name}.toml"
    return parse_task(name, file.read_text(encoding="utf-8"), f"{name}.toml")


def parse_task(name: str, text: str, where: str) -> Named | NamedQuestions:
    """The task that a file's text holds.

    Args:
        name: of the task.
        text: TOML.
        where: the file, for errors.

    Raises:
        TaskError: it holds none.
    """
    try:
        body = tomllib.loads(text)
        layout = body.pop("layout", None)
        asks = body.get("form") in QUESTION_METHODS
        layouts = QUESTION_LAYOUTS[body["form"]] if asks else LAYOUTS
        if not isinstance(layout, dict) or layout.get("kind") not in layouts:
            raise ValueError(f'"layout.kind" must be one of {", ".join(layouts)}')
        kind = layouts[layout.pop("kind")]
        if asks:
            return NamedQuestions(name, _checked(build(QuestionTask, body)), build(kind, layout))
        task = build(Task, body)
        found = Named(name, task, build(kind, layout))
        _check(task)
    except ValueError as error:  # tomllib's is one, too
        raise TaskError(f"{where} is no task ({one_line(error)})") from error
    return found


def _check(task: Task) -> None:
    """Refuse what no type forbids.

    Raises:
        ValueError: a template without its place, findings without their opposite, a wrong "ask", or two labels with one value.
    """
    for template in (*task.templates, *task.without):
        if template.count("{}") != 1 or template.count("{") != 1:
            raise ValueError(f"the template {template!r} needs {{}} once, and no other brace")
    if not task.templates or (task.form == "findings" and not task.without):
        raise ValueError('"templates" are missing, or "without", which findings need')
    if any(not label.texts or not all(text.strip() for text in label.texts) for label in task.labels.values()):
        raise ValueError("a label needs at least one text, and none may be blank")
    if task.form == "findings" and not task.labels:
        raise ValueError('"labels" are missing, which findings need')
    if task.ask is not None and (task.form != "findings" or task.ask.prompt.count("{}") != 1 or task.ask.limit < 1):
        raise ValueError('"ask" is for findings, its prompt needs {} once, and its limit must be at least 1')
    if len(task.values) < len(task.labels):
        raise ValueError("two labels have the same value")


def _checked(task: QuestionTask) -> QuestionTask:
    """Refuse prompts that don't ask.

    Raises:
        ValueError: a prompt is missing, or lacks the question or the options.
    """
    if set(task.prompts) != set(QUESTION_METHODS[task.form]):
        raise ValueError(f'"prompts" must be those of {" and ".join(QUESTION_METHODS[task.form])}')
    marks = _MARKS[task.form]
    if any(prompt.count(mark) != 1 for prompt in task.prompts.values() for mark in marks):
        raise ValueError(f"a prompt needs {' and '.join(marks)} once each")
    if task.form == "record questions" and not task.prompts["record"].startswith("{question}"):
        raise ValueError("the prompt must begin with {question}: what follows it takes no part in the choice of lines")
    if task.limit < 1:
        raise ValueError('"limit" must be at least 1')
    return task
