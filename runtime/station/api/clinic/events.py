"""`/v1/events`: which study or job has changed, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from ...station import Station
from ...store import changes
from ..service import At, Held, Service
from ..who import Viewer
from .bodies import UNKNOWN, job_body

router = APIRouter(tags=["jobs"])
EVERY = 0.5  # seconds between two looks
_SILENCE = 15.0  # seconds after which a comment shows that the stream lives
_EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string"}, "event": {"enum": ["study", "job"]}, "data": {"type": "string"},
        "retry": {"type": "string"},
    },
}  # fmt: skip
_EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": _EVENT}}}}


@router.get(
    "/v1/events", summary="What changes, as it changes", response_class=StreamingResponse, responses=UNKNOWN | _EVENTS
)
async def events(
    request: Request, at: At, held: Held, user: Viewer,
    last_event_id: Annotated[str | None, Header(max_length=40)] = None,
) -> StreamingResponse:  # fmt: skip
    """`event: study` with {"uid"}, `event: job` with the job. A browser's EventSource reconnects by itself, and misses nothing
    while fewer than 1000 things change."""
    begin = await anyio.to_thread.run_sync(_newest, held)
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        begin = min(begin, int(last_event_id[:18]))
    return StreamingResponse(_stream(request, at, held, begin), media_type="text/event-stream")


async def _stream(request: Request, at: Service, held: Station, last: int) -> AsyncIterator[str]:
    until, spoken = time.monotonic() + at.listening, time.monotonic()
    yield "retry: 2000\n\n"
    while time.monotonic() < until and not at.ending.is_set() and not await request.is_disconnected():
        found = await anyio.to_thread.run_sync(_after, held, last)
        for number, kind, data in found:
            last, spoken = number, time.monotonic()
            yield f"id: {number}\nevent: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
        if time.monotonic() - spoken > _SILENCE:
            spoken = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(min(EVERY, max(until - time.monotonic(), 0)))


def _newest(held: Station) -> int:
    with held.database.read() as connection:
        return changes.newest(connection)


def _after(held: Station, last: int) -> list[tuple[int, str, Any]]:
    with held.database.read() as connection:
        found = changes.after(connection, last)
    told: list[tuple[int, str, Any]] = []
    for one in found:
        if one.kind == "study":
            told.append((one.id, "study", {"uid": one.what}))
        elif (job := held.queue.get(int(one.what))) is not None:
            told.append((one.id, "job", job_body(held, job).model_dump()))
    return told
