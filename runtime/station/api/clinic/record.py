"""`/v1/record`: a question over a patient's record (FHIR R4), answered with the resources that the answer rests on."""

from __future__ import annotations

import json
import threading
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from ....assistants.health_record import RecordAnswer, answer_from_record
from ....errors import RecordError
from ....json_text import loads
from ...models.catalogue import Entry
from ...reading.speaking import speaking
from ..chat_request import Given
from ..problems import ProblemBody, RefusedError
from ..service import At, Service
from ..who import Viewer
from .bodies import UNKNOWN

router = APIRouter(tags=["medge"])


class RecordRequest(Given):
    """A record and a question."""

    bundle: dict[str, Any] = Field(description="a FHIR R4 Bundle of one patient")
    question: str = Field(min_length=1, max_length=4000)
    model: str | None = Field(None, max_length=200, description="a language model; the station's own where left out")


class RecordBody(BaseModel):
    """The answer; `sources` are references of resources such as "Observation/12", `shown` and `of` count the record's lines that
    the model saw and that there are, `note` says what of the record is known to be missing."""

    model: str
    parity: str
    answer: str
    sources: list[str]
    shown: int
    of: int
    complete: bool
    note: str


@router.post("/v1/record", summary="Ask over a patient's record", responses=UNKNOWN | {429: {"model": ProblemBody}})
async def record(request: Request, at: At, user: Viewer, asked: RecordRequest) -> RecordBody:
    """The record is read and forgotten: nothing of it is stored."""
    entry = at.catalogue.get(asked.model, "generator")
    await at.note_question(user.name, entry)
    gone = threading.Event()
    found: RecordAnswer | Exception = RefusedError("the client has gone", status=499)
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            while not await request.is_disconnected():
                await anyio.sleep(1)
            gone.set()

        group.start_soon(listen)
        found = await anyio.to_thread.run_sync(_answer, at, entry, asked, gone)
        group.cancel_scope.cancel()
    if isinstance(found, Exception):
        raise found
    return RecordBody(
        model=entry.id, parity=entry.parity, answer=found.text, sources=list(found.sources), shown=found.shown,
        of=found.of, complete=found.complete, note=found.note,
    )  # fmt: skip


def _answer(at: Service, entry: Entry, asked: RecordRequest, gone: threading.Event) -> RecordAnswer | Exception:
    """The answer, or why there is none: a group of tasks would wrap what is raised."""

    def watch(doing: str, done: int, steps: int) -> None:
        if gone.is_set():
            raise RefusedError("the client has gone", status=499)

    try:
        bundle = loads(json.dumps(asked.bundle))  # refuses half a character, and numbers that are none
    except (ValueError, RecursionError):
        return RecordError("the record is no JSON that FHIR allows")
    try:
        with speaking(at.queue, at.shelf, entry, watch, patient=False) as chat:
            return answer_from_record(chat, bundle, asked.question)
    except Exception as error:
        return error
