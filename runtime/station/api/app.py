"""The station's HTTP interface put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from ..page.serve import page_router
from . import chat, classify, embeddings, health, predict, problems
from .clinic import audit, events, instances, jobs, record, reports, search, stow, studies, uploads
from .entry import session
from .entry.guard import LOOPBACK, MOST_BYTES, Guard
from .entry.lock import Lock, describe
from .page import STYLE, page
from .service import Service

TITLE = "medge station"
ABOUT = "Medical images and questions, on this machine. Not a medical device: a person has to look at every result."


def create_app(
    service: Service, *, hosts: frozenset[str] = LOOPBACK, most_bytes: int = MOST_BYTES, version: str = "0",
    always_locked: bool = False, hsts: bool = False,
) -> ASGIApp:  # fmt: skip
    """The application, behind its lock and its guard.

    Args:
        service: the models.
        hosts: names, without port, by which the station may be called.
        most_bytes: of a request's body.
        version: of medge, for the OpenAPI document.
        always_locked: also while there are no users: beyond this machine.
        hsts: tell browsers to come by TLS only.
    """
    app = _routed(version)
    app.state.service = service

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()))

    @app.get("/docs/style.css", include_in_schema=False)
    async def style() -> Response:
        return Response(STYLE, media_type="text/css")

    app.include_router(page_router())
    app.openapi = lambda: document(app)  # type: ignore[method-assign]  # FastAPI's own way to change the document
    doors = None if service.station is None else service.station.doors
    return Guard(Lock(app, doors, always=always_locked), hosts, most_bytes, service.metrics, hsts=hsts)


def _routed(version: str) -> FastAPI:
    app = FastAPI(
        title=TITLE, description=ABOUT, version=version, docs_url=None, redoc_url=None, openapi_url="/openapi.json",
        lifespan=_lifespan, redirect_slashes=False,
    )  # fmt: skip
    problems.install(app)
    for part in (
        chat, embeddings, classify, predict, studies, uploads, instances, jobs, events, reports, search, record, audit, stow,
        health, session,
    ):  # fmt: skip
        app.include_router(part.router)
    return app


def bare_document() -> dict[str, Any]:
    """The OpenAPI document without a station."""
    return document(_routed("0"))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    for helper in service.helpers:
        helper.start()
    yield
    service.ending.set()
    for helper in reversed(service.helpers):
        await anyio.to_thread.run_sync(helper.stop)
    await anyio.to_thread.run_sync(service.shelf.close)


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document. What is wrong with a request is told with status 400, where FastAPI would say 422."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for methods in made["paths"].values():
            for found in methods.values():
                found["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            made["components"]["schemas"].pop(name, None)
        made["components"]["schemas"] |= predict.schemas()
        describe(made)
        app.openapi_schema = made
    return app.openapi_schema
