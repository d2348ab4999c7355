"""`/v1/audit`: who did what, when."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from ..service import Held
from ..who import Admin
from .bodies import LARGEST, UNKNOWN

router = APIRouter(tags=["operation"])


class EntryBody(BaseModel):
    """One line of the audit log, without its hash; `what` is a UID or a job's number."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    at: float
    who: str
    action: str
    what: str
    detail: dict[str, Any]


class EntryList(BaseModel):
    """Some lines, the newest first."""

    entries: list[EntryBody]


@router.get("/v1/audit", summary="Who did what, when", responses=UNKNOWN)
def audit(
    held: Held, user: Admin, what: Annotated[str, Query(max_length=128)] = "",
    before: Annotated[int, Query(ge=0, le=LARGEST, description="only entries with a smaller number; 0 for all")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> EntryList:  # fmt: skip
    """The audit log, which is only ever added to: each entry holds the hash of the one before."""
    found = held.history(what=what, before=before, limit=limit)
    return EntryList(entries=[EntryBody.model_validate(one) for one in found])
