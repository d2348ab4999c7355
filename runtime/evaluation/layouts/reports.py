"""Chest films with radiologists' reports, as MIMIC-CXR and the Indiana University collection are handed out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree  # nosec B405

from ...errors import TaskError, one_line
from ..items import FoundQuestions, ReportItem
from ..places import NO_IMAGE, Pictures, find_file, find_files, try_file
from .report_sections import sections_of
from .table import read_rows

Section = Literal["findings", "impression"]
NO_SECTION, NO_REPORT = "without the section", "report not in the folder"
NO_VIEW = "without a frontal film"
SPLIT, METADATA = ("mimic-cxr-2.0.0-split.csv",), ("mimic-cxr-2.0.0-metadata.csv",)


@dataclass(frozen=True)
class MIMICReports:
    """MIMIC-CXR: files/p10/p10000032/s50414267.txt, with images of MIMIC-CXR-JPG or DICOM files in the folder of the study.

    Attributes:
        section: what a model is to write.
        side: of the official split.
        views: of the metadata file, which of a study's films is shown, the best first; without that file its first film.
    """

    section: Section = "findings"
    side: str = "test"
    views: tuple[str, ...] = ("PA", "AP")

    def read(self, folder: Path, task: str) -> FoundQuestions:
        """The studies of a folder, with one film each.

        Args:
            folder: where the data lie.
            task: its name, for errors.

        Raises:
            TaskError: a file or a column is missing, or no study has a film and a report.
        """
        left_out: Counter[str] = Counter()
        pictures, found = Pictures(folder), []
        for (patient, study), films in self._studies(folder, task).items():
            place = f"files/p{patient[:2]}/p{patient}/s{study}"
            text = self._text(folder, f"{place}.txt", left_out)
            if text is None:
                continue
            names = (f"{place}/{film}.{ending}" for film in films for ending in ("jpg", "dcm"))
            film = next((path for name in names if (path := pictures.find(name)) is not None), None)
            if film is None:
                left_out[NO_IMAGE if films else NO_VIEW] += 1
                continue
            found.append(ReportItem(f"s{study}", text, partial(Path, film), film.stem, patient))
        return _checked(folder, task, found, left_out)

    def _studies(self, folder: Path, task: str) -> dict[tuple[str, str], list[str]]:
        """{(patient, study): films} of the side, the film to be shown first."""
        path, facts = find_file(folder, SPLIT, task), try_file(folder, METADATA)
        studies: dict[tuple[str, str], list[str]] = {}
        try:
            views = None if facts is None else {row["dicom_id"]: row["ViewPosition"] for row in read_rows(facts)}
            for row in read_rows(path):
                if row["split"] == self.side:
                    studies.setdefault((row["subject_id"], row["study_id"]), []).append(row["dicom_id"])
        except KeyError as error:
            raise TaskError(
                f"{path} or its metadata: there is no column {error}, which the task '{task}' needs"
            ) from error
        return {study: self._frontal(films, views) for study, films in studies.items()}

    def _frontal(self, films: list[str], views: Mapping[str, str] | None) -> list[str]:
        if views is None:
            return films
        return [film for view in self.views for film in films if views.get(film) == view]

    def _text(self, folder: Path, name: str, left_out: Counter[str]) -> str | None:
        """The section of a report; None where it is not there."""
        path = _text_file(folder, name)
        if path is None:
            left_out[NO_REPORT] += 1
            return None
        text = sections_of(path.read_text(encoding="utf-8", errors="replace")).get(self.section)
        if text is None:
            left_out[NO_SECTION] += 1
        return text


@dataclass(frozen=True)
class IUReports:
    """Indiana University's chest films: a folder of XML files (ecgen-radiology), and one of PNG files.

    Attributes:
        section: what a model is to write.
    """

    section: Section = "findings"

    def read(self, folder: Path, task: str) -> FoundQuestions:
        """The reports of a folder, with the first of their films each; which one is frontal, the files don't say.

        Args:
            folder: where the data lie.
            task: its name, for errors.

        Raises:
            TaskError: there is no report, a file is no report, or no report has its film in the folder.
        """
        left_out: Counter[str] = Counter()
        pictures = Pictures(folder)
        paths = find_files(folder, ["ecgen-radiology/*.xml", "*.xml"], task)
        found = [item for path in paths if (item := self._item(path, pictures, left_out)) is not None]
        return _checked(folder, task, found, left_out)

    def _item(self, path: Path, pictures: Pictures, left_out: Counter[str]) -> ReportItem | None:
        root = _parsed(path)
        said = [one.text or "" for one in root.iter("AbstractText") if one.get("Label", "").lower() == self.section]
        text = " ".join(" ".join(said).split())
        if not text:
            left_out[NO_SECTION] += 1
            return None
        names = [name for image in root.iter("parentImage") if (name := image.get("id"))]
        film = next((film for name in names if (film := pictures.find(name)) is not None), None)
        if film is None:
            left_out[NO_IMAGE] += 1
            return None
        return ReportItem(f"CXR{path.stem}", text, partial(Path, film), film.stem, f"CXR{path.stem}")


def _parsed(path: Path) -> ElementTree.Element:
    try:
        # Since 2.4.1 expat bounds what entities grow to, and it opens no other file; Python 3.11 comes with a later one.
        return ElementTree.parse(path).getroot()  # nosec B314
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise TaskError(f"{path}: is no report in XML ({one_line(error)})") from error


def _text_file(folder: Path, name: str) -> Path | None:
    """A report by its path, which begins at the folder that was given or at one inside `files`."""
    parts = name.split("/")
    places = (folder.joinpath(*parts[start:]) for start in range(len(parts) - 1))
    roots = (folder / "mimic-cxr-reports" / name, *places)
    return next((path for path in roots if path.is_file()), None)


def _checked(folder: Path, task: str, found: list[ReportItem], left_out: Counter[str]) -> FoundQuestions:
    if not found:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())) or "no study on this side"
        raise TaskError(f"{folder}: no report of the task '{task}' can be used ({why})")
    return FoundQuestions(list(found), left_out)
