"""`/v1/studies/{uid}/report`: a draft that a person edits, signs and releases. What is signed is never changed."""

from __future__ import annotations

import sqlite3
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints

from ...reading.intake import DELIVER
from ...store import audit, catalogue, reports
from ...store.reports import Report
from ...work.jobs import NewJob
from ..chat_request import Given
from ..service import Held
from ..who import Reader, Viewer, own_name
from .bodies import CHANGING, UNKNOWN, Uid, unknown_study

router = APIRouter(tags=["reports"])
_MOST_HISTORY = 500
Version = Annotated[int, Field(ge=0, le=10_000, description="the one that was read; 0 where there was none")]


class HistoryBody(BaseModel):
    """What was done to the report."""

    at: float
    who: str
    action: str


class ReportBody(BaseModel):
    """The newest version; times are in seconds since 1970. `author` "station" and `model` name a draft of a language model."""

    state: str
    text: str
    version: int
    author: str
    model: str
    signed_by: str
    signed_at: float | None
    released_at: float | None
    history: list[HistoryBody]


class NewText(Given):
    """A new version of the whole text."""

    text: str = Field(max_length=100_000)
    version: Version


class Signature(Given):
    """Who answers for it."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
    version: Version


@router.get("/v1/studies/{uid}/report", summary="The report", responses=UNKNOWN)
def report(held: Held, user: Viewer, uid: Uid) -> ReportBody:
    """Its newest version, and what was done to it, the newest first."""
    with held.database.read() as connection:
        _refuse_unknown(connection, uid)
        return _body(connection, uid, reports.latest(connection, uid))


@router.put("/v1/studies/{uid}/report", summary="Write the report", responses=CHANGING)
def write(held: Held, user: Reader, uid: Uid, given: NewText) -> ReportBody:
    """Makes a new version. Status 409 where another version is the newest by now, or it is signed."""
    with held.database.write() as connection:
        _refuse_unknown(connection, uid)
        found = reports.change(connection, uid, given.text, version=given.version, who=user.name)
        return _body(connection, uid, found)


@router.post("/v1/studies/{uid}/report/sign", summary="Sign the report", responses=CHANGING)
def sign(held: Held, user: Reader, uid: Uid, given: Signature) -> ReportBody:
    """The version that was read. Who has logged in signs under their own name, and a program not at all (status 403). Status 409
    where another version is the newest by now, or it is signed."""
    name = own_name(user, given.name)
    with held.database.write() as connection:
        _refuse_unknown(connection, uid)
        found = reports.sign(connection, uid, version=given.version, name=name, who=user.name)
        return _body(connection, uid, found)


@router.post("/v1/studies/{uid}/report/release", summary="Release the signed report", responses=CHANGING)
def release(held: Held, user: Reader, uid: Uid) -> ReportBody:
    """It may leave the station from now on: a job delivers it to where the settings say. Status 409 where it is not signed."""
    with held.database.write() as connection:
        _refuse_unknown(connection, uid)
        found = reports.release(connection, uid, who=user.name)
        new = NewJob(DELIVER, {"study": uid}, key=f"{DELIVER} {uid} {found.version}", study=uid)
        held.queue.add_within(connection, new)
        body = _body(connection, uid, found)
    held.queue.wake()
    return body


@router.post("/v1/studies/{uid}/report/reopen", summary="Reopen the signed report", responses=CHANGING)
def reopen(held: Held, user: Reader, uid: Uid) -> ReportBody:
    """Begins a new version with its text; the signed one stays as it is. Status 409 where it is not signed."""
    with held.database.write() as connection:
        _refuse_unknown(connection, uid)
        return _body(connection, uid, reports.reopen(connection, uid, who=user.name))


def _refuse_unknown(connection: sqlite3.Connection, uid: str) -> None:
    if catalogue.study(connection, uid) is None:
        raise unknown_study()


def _body(connection: sqlite3.Connection, uid: str, found: Report | None) -> ReportBody:
    study = catalogue.study(connection, uid)
    since = 0.0 if study is None else study.received  # a study that was removed and came again begins anew
    history = [
        HistoryBody(at=one.at, who=one.who, action=one.action)
        for one in audit.entries(connection, what=uid, limit=_MOST_HISTORY)
        if one.action in reports.ACTIONS and one.at >= since
    ]
    if found is None:
        return ReportBody(
            state="none", text="", version=0, author="", model="", signed_by="", signed_at=None, released_at=None,
            history=history,
        )  # fmt: skip
    return ReportBody(
        state=found.state, text=found.text, version=found.version, author=found.author, model=found.model,
        signed_by=found.signed_by, signed_at=found.signed_at, released_at=found.released_at, history=history,
    )  # fmt: skip
