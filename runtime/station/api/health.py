"""Whether the station lives, whether it can work, and what it has done."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from .service import At

router = APIRouter(tags=["operation"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What the station can do now; `refused` names the bundles that were left out, and why."""

    status: Literal["ready"] = "ready"
    models: list[str]
    loaded: list[str]
    waiting: int
    refused: dict[str, str]


@router.get("/healthz", summary="Whether the station lives")
async def healthz() -> Health:
    """Looks at nothing else."""
    return Health()


@router.get("/readyz", summary="Whether the station can work")
async def readyz(at: At) -> Readiness:
    """The bundles, those of them that are in memory, and how many answers wait or are being made."""
    catalogue = at.catalogue
    return Readiness(
        models=list(catalogue.entries), loaded=list(at.shelf.loaded), waiting=len(at.queue), refused=catalogue.refused
    )


@router.get("/metrics", summary="Counts for Prometheus", response_class=Response)
async def metrics(at: At) -> Response:
    """Routes, statuses, times, tokens and memory; nothing of what was asked."""
    return Response(at.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
