"""`report`: a language model's draft of a report on a study, for a person to correct and sign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...assistants.radiology_report import TEMPLATES, Report, write_report
from ...errors import ImageError, StationError
from ...pictures.preprocess import Pixels
from ...pictures.view import View
from ..models.answers import AnswerQueue
from ..models.catalogue import Catalogue, Entry, NoModelError
from ..models.shelf import Shelf
from ..station import Station
from ..store import reports
from ..work.worker import Task
from .choice import Choice, Frame, choose_of, key_frames
from .judging import WHO
from .pictures import picture_of
from .speaking import speaking

_TEMPLATES = {"CT": "ct", "OP": "fundus", "SM": "pathology", "GM": "pathology"}  # by modality
_FILMS, _CHEST = frozenset({"DX", "CR"}), frozenset({"CHEST", "THORAX"})
CUT = "(The draft was cut off here.)"


def reporter(catalogue: Catalogue, model: str | None) -> Entry:
    """The language model that writes reports: the one that is named, or the only one that sees images.

    Raises:
        NoModelError: there is none, or it is not clear which.
    """
    if model is not None:
        return catalogue.get(model, "generator")
    seeing = [one for one in catalogue.entries.values() if one.kind == "generator" and one.image_size]
    if len(seeing) != 1:
        names = ", ".join(one.id for one in seeing) or "none"
        raise NoModelError(f"name the model that writes reports in 'model'; those that see images here: {names}")
    return seeing[0]


def template_for(choices: Sequence[Choice]) -> str:
    """The kind of report that fits a study's modalities; "general" where none is clear."""
    modalities = {choice.series.modality for choice in choices}
    parts = {choice.series.body_part.upper() for choice in choices} - {""}
    if modalities <= _FILMS and parts and parts <= _CHEST:
        return "chest-xray"
    fitting = {_TEMPLATES.get(modality, "general") for modality in modalities}
    return fitting.pop() if len(fitting) == 1 else "general"


def prose(report: Report) -> str:
    """A draft as a person edits it: under "Findings" a line for each region, then "Impression"."""
    lines = [f"{region.capitalize()}: {text}" for region, text in report.findings.items()]
    ending = [report.impression] if report.complete else [report.impression, CUT]
    return "\n".join(["Findings", *lines, "", "Impression", *filter(None, ending)])


class Drafter:
    """Writes drafts.

    Args:
        station: which holds the studies.
        catalogue: with the language models.
        shelf: which lends them.
        answers: the queue before them.
    """

    def __init__(self, station: Station, catalogue: Catalogue, shelf: Shelf, answers: AnswerQueue) -> None:
        self._station, self._catalogue, self._shelf, self._answers = station, catalogue, shelf, answers

    def report(self, task: Task) -> dict[str, Any]:
        """The handler of `report`; the job's payload is {"model", "template", "clinical"}, each of which may be missing.

        Raises:
            StationError: there is no study, or no model that sees images.
            ImageError: none of the study's pictures can be read.
        """
        study, asked = task.job.study, task.job.payload or {}
        if study is None:
            raise StationError("a report belongs to a study")
        entry = reporter(self._catalogue, asked.get("model"))
        choices = choose_of(self._station, study, None)
        frames, pictures = self._pictures(key_frames(choices))
        template = asked.get("template") or template_for(choices)
        with speaking(self._answers, self._shelf, entry, task.progress, patient=True) as chat:
            written = write_report(chat, pictures, TEMPLATES[template], clinical=asked.get("clinical") or "")
        text = prose(written)
        with self._station.database.write() as connection:
            entered = reports.draft(connection, study, text, author=WHO, model=entry.id, job=task.job.id)
        return {
            "model": entry.id, "parity": entry.parity, "recipes": entry.recipes, **written.as_dict(), "text": text,
            "entered": entered,
            "frames": [{"instance": one.instance.uid, "frame": one.number} for one in frames],
        }  # fmt: skip

    def _pictures(self, wanted: Sequence[Frame]) -> tuple[list[Frame], list[Pixels]]:
        """The frames that can be read, and their pixels."""
        frames, pictures, problem = [], [], "it holds none"
        for frame in wanted:
            try:
                pictures.append(picture_of(self._station, frame.instance, View(frame.number)))
                frames.append(frame)
            except ImageError as error:
                problem = str(error)
        if not frames:
            raise ImageError(f"none of the study's pictures can be read: {problem}")
        return frames, pictures
