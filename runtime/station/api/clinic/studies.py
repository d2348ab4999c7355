"""`/v1/studies`: the worklist, a study, and its end."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from ...store import catalogue
from ...store.catalogue import Wanted
from ..service import Held
from ..who import Admin, Viewer
from .bodies import (
    CHANGING,
    UNKNOWN,
    StudyBody,
    StudyDetail,
    StudyList,
    Uid,
    job_body,
    result_bodies,
    series_body,
    study_fields,
    unknown_study,
)

router = APIRouter(tags=["studies"])
Text = Annotated[str, Query(max_length=256)]
Day = Annotated[str, Query(pattern=r"^(\d{8})?$", description="YYYYMMDD, of the study; included")]
_MOST_JOBS = 200  # of a study


@router.get("/v1/studies", summary="The worklist", responses=UNKNOWN)
def studies(
    held: Held, user: Viewer, text: Text = "", modality: Text = "", state: Text = "", since: Day = "", until: Day = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100, offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> StudyList:  # fmt: skip
    """The newest first. `text` is a part of the patient's name or number, the accession number or the description."""
    found = held.studies(Wanted(text, modality, state, since, until, limit + 1, offset))
    return StudyList(studies=[StudyBody(**study_fields(one)) for one in found[:limit]], more=len(found) > limit)


@router.get("/v1/studies/{uid}", summary="A study", responses=UNKNOWN)
def study(held: Held, user: Viewer, uid: Uid) -> StudyDetail:
    """With its series and objects, the results of its jobs, and the jobs, the newest first."""
    with held.database.read() as connection:
        found = catalogue.one_listed(connection, uid)
        if found is None:
            raise unknown_study()
        series = [
            series_body(one, catalogue.instances_of(connection, one.uid))
            for one in catalogue.series_of(connection, uid)
        ]
        results = result_bodies(catalogue.results_of(connection, uid))
    jobs = [job_body(held, job) for job in held.queue.list(study=uid, limit=_MOST_JOBS)]
    return StudyDetail(**study_fields(found), series=series, results=results, jobs=jobs)


@router.delete("/v1/studies/{uid}", summary="Remove a study", status_code=204, responses=CHANGING)
def remove(held: Held, user: Admin, uid: Uid) -> Response:
    """With its objects, jobs, results and reports. The audit log keeps what was done to it."""
    if not held.remove(uid, who=user.name):
        raise unknown_study()
    return Response(status_code=204)
