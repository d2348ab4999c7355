"""`/v1/jobs`: what is done with studies, asked for, watched, stopped and tried again."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from ....assistants.radiology_report import TEMPLATES
from ...reading.drafting import reporter
from ...reading.intake import CLASSIFY
from ...station import Station
from ...store import audit, reports
from ...work.jobs import Job
from ..chat_request import Given
from ..problems import RefusedError
from ..service import At, Held
from ..who import Reader, Viewer
from .bodies import CHANGING, UNKNOWN, JobBody, Number, Uid, job_body, refuse_unknown_study

router = APIRouter(tags=["jobs"])


class NewJobBody(Given):
    """What is to be done with a study."""

    kind: Literal["classify", "report"]
    model: str | None = Field(None, max_length=200, description="a bundle; the station's own where left out")
    template: str | None = Field(None, description=f"of a report: {', '.join(TEMPLATES)}; by modality where left out")
    clinical: str = Field("", max_length=2000, description="of a report: what the reader should know")


@router.post("/v1/studies/{uid}/jobs", summary="Ask for work on a study", status_code=201, responses=CHANGING)
def ask(at: At, held: Held, user: Reader, uid: Uid, asked: NewJobBody) -> JobBody:
    """`classify` judges all series anew; `report` drafts a report, which a person corrects and signs."""
    refuse_unknown_study(held, uid)
    if asked.kind == CLASSIFY:
        entry = at.catalogue.get(asked.model, "encoder")
        payload: dict[str, str] = {"model": entry.id}
    else:
        if asked.template is not None and asked.template not in TEMPLATES:
            raise RefusedError(f"there is no such template; choose from {', '.join(TEMPLATES)}", param="template")
        with held.database.read() as connection:
            found = reports.latest(connection, uid)
        if found is not None and found.signed_at is not None:
            raise RefusedError(
                "the report is signed; reopen it before you ask for a draft", status=409, code="conflict"
            )
        entry = reporter(at.catalogue, asked.model)
        payload = {"model": entry.id, "template": asked.template or "", "clinical": asked.clinical}
    # Whoever asks twice for the same before it has begun gets the same job.
    of = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:16]
    job = held.queue.add(asked.kind, payload, key=f"{asked.kind} {uid} {of}", study=uid, priority=1, settle=0)
    action: audit.Action = "asked to classify" if asked.kind == CLASSIFY else "asked to report"
    held.note(user.name, action, uid, {"job": job.id, "bundle": entry.id})
    return job_body(held, job)


@router.get("/v1/jobs", summary="Jobs", responses=UNKNOWN)
def jobs(
    held: Held, user: Viewer, state: Annotated[str, Query(max_length=20)] = "",
    study: Annotated[str, Query(max_length=128)] = "", limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[JobBody]:  # fmt: skip
    """The newest first."""
    return [job_body(held, job) for job in held.queue.list(state=state, study=study, limit=limit)]


@router.get("/v1/jobs/{number}", summary="A job", responses=UNKNOWN)
def one(held: Held, user: Viewer, number: Number) -> JobBody:
    """As it stands now."""
    return job_body(held, _job(held, number))


@router.post("/v1/jobs/{number}/cancel", summary="Stop a job", responses=CHANGING)
def cancel(held: Held, user: Reader, number: Number) -> JobBody:
    """At once where it waits, soon where it runs."""
    _job(held, number)
    job = held.queue.cancel(number)
    held.note(user.name, "cancelled", str(number))
    return job_body(held, job)


@router.post("/v1/jobs/{number}/retry", summary="Try a job again", responses=CHANGING)
def retry(held: Held, user: Reader, number: Number) -> JobBody:
    """One that is parked or cancelled."""
    _job(held, number)
    job = held.queue.retry(number)
    held.note(user.name, "tried again", str(number))
    return job_body(held, job)


def _job(held: Station, number: int) -> Job:
    if (found := held.queue.get(number)) is None:
        raise RefusedError("the station has no such job", status=404, code="not_found")
    return found
