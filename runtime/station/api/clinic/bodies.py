"""What the routes about studies answer, and how records of the store become that."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel

from ...station import Station
from ...store.records import Instance, Listed, Result, Series
from ...work.jobs import Job
from ..problems import ProblemBody, RefusedError

LARGEST = 2**53 - 1  # a number that every client can hold
Uid = Annotated[str, Path(min_length=1, max_length=128, description="a UID of DICOM's")]
Number = Annotated[int, Path(ge=1, le=LARGEST, description="a job's number")]

UNKNOWN: dict[int | str, dict[str, Any]] = {status: {"model": ProblemBody} for status in (400, 403, 404, 503)}
CHANGING: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemBody} for status in (400, 403, 404, 409, 503, 507)
}


class PatientBody(BaseModel):
    """Whose study it is, as DICOM writes it; "" where not stated."""

    name: str
    id: str
    birth_date: str
    sex: str


class StudyBody(BaseModel):
    """A study of the worklist.

    `state` is "new", "waiting", "running", "done" or "needs a look"; `picture` is the instance that shows what it is; `report` is
    "none", "draft", "signed" or "released"; `received` is in seconds since 1970.
    """

    uid: str
    patient: PatientBody
    date: str
    time: str
    accession: str
    description: str
    received: float
    state: str
    modalities: list[str]
    instances: int
    bytes: int
    picture: str | None
    report: str


class StudyList(BaseModel):
    """Some studies, the newest first, and whether there are more."""

    studies: list[StudyBody]
    more: bool


class InstanceBody(BaseModel):
    """An object; `kind` is "dicom", "png", "jpeg", "tiff", "bmp" or "webp"."""

    uid: str
    kind: str
    number: int | None
    frames: int
    rows: int | None
    columns: int | None
    bytes: int


class SeriesBody(BaseModel):
    """A series with its objects by number; the modality of pictures that are no DICOM is XC."""

    uid: str
    modality: str
    number: int | None
    description: str
    body_part: str
    instances: list[InstanceBody]


class ResultBody(BaseModel):
    """What a job found; `content` is of its kind."""

    id: int
    kind: str
    job: int | None
    created: float
    content: Any


class JobBody(BaseModel):
    """A job.

    `state` is "waiting", "running", "done", "parked" (it failed too often; `reason` says why) or "cancelled"; `ahead` is how many
    of its kind come before it while it waits.
    """

    id: int
    kind: str
    study: str | None
    state: str
    failures: int
    reason: str
    done: int
    steps: int
    doing: str
    created: float
    ended: float | None
    ahead: int


class StudyDetail(StudyBody):
    """A study with what it holds, what was found, and what was or is done with it."""

    series: list[SeriesBody]
    results: list[ResultBody]
    jobs: list[JobBody]


def study_fields(found: Listed) -> dict[str, Any]:
    """The fields of a `StudyBody`."""
    one = found.study
    patient = PatientBody(name=one.patient_name, id=one.patient_id, birth_date=one.birth_date, sex=one.sex)
    return {
        "uid": one.uid, "patient": patient, "date": one.date, "time": one.time, "accession": one.accession,
        "description": one.description, "received": one.received, "state": found.state,
        "modalities": list(found.modalities), "instances": found.instances, "bytes": found.bytes,
        "picture": found.picture, "report": found.report,
    }  # fmt: skip


def series_body(found: Series, instances: list[Instance]) -> SeriesBody:
    """A series with its objects."""
    objects = [
        InstanceBody(
            uid=one.uid, kind=one.kind, number=one.number, frames=one.frames, rows=one.rows, columns=one.columns,
            bytes=one.bytes,
        )
        for one in instances
    ]  # fmt: skip
    return SeriesBody(
        uid=found.uid, modality=found.modality, number=found.number, description=found.description,
        body_part=found.body_part, instances=objects,
    )  # fmt: skip


def job_body(held: Station, job: Job) -> JobBody:
    """A job, with its place."""
    return JobBody(
        id=job.id, kind=job.kind, study=job.study, state=job.state, failures=job.failures, reason=job.reason,
        done=job.steps_done, steps=job.steps, doing=job.doing, created=job.created, ended=job.ended,
        ahead=held.queue.ahead(job) if job.state == "waiting" else 0,
    )  # fmt: skip


def result_bodies(found: list[Result]) -> list[ResultBody]:
    """Results, the oldest first, without those that a later one of the same kind covers: of a series that was judged again
    when more of it had come."""
    kept: list[Result] = []
    covered: dict[str, set[str]] = {}
    for one in reversed(found):
        series = (
            {str(each["uid"]) for each in one.content.get("series", ())} if isinstance(one.content, dict) else set()
        )
        seen = covered.setdefault(one.kind, set())
        if not series or not series <= seen:
            kept.append(one)
        seen |= series
    return [
        ResultBody(id=one.id, kind=one.kind, job=one.job, created=one.created, content=one.content)
        for one in reversed(kept)
    ]


def instance_of(held: Station, uid: str) -> Instance:
    """An object of the station.

    Raises:
        RefusedError: there is none.
    """
    if (found := held.instance(uid)) is None:
        raise RefusedError("the station holds no such object", status=404, code="not_found")
    return found


def refuse_unknown_study(held: Station, uid: str) -> None:
    """Refuse what is about a study that is not there.

    Raises:
        RefusedError: there is none.
    """
    if held.study(uid) is None:
        raise unknown_study()


def unknown_study() -> RefusedError:
    """What is said of a study that is not there."""
    return RefusedError("the station holds no such study", status=404, code="not_found")
