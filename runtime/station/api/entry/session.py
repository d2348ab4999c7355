"""`/v1/session`: people log in, see who they are, and log out."""

from __future__ import annotations

import math
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from ...doors.doors import LoginError, LoginWaitError
from ...doors.sessions import Session
from ..problems import ProblemBody, RefusedError
from ..service import At
from ..who import USER, VISITOR, who_of
from .lock import SESSION, cookie_name, cookie_of

router = APIRouter(tags=["session"])
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemBody} for status in (400, 401, 403, 413, 429, 503, 507)
}


class Login(BaseModel):
    """A name and a password."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=256)
    password: str = Field(max_length=1024)


class Whoami(BaseModel):
    """Who asks. `csrf` goes into the header X-CSRF-Token of every request by cookie that is no GET; null where there is no
    session. `ends`: when the session ends at the latest, in seconds since 1970. `must_log_in`: the station has users."""

    name: str
    role: str
    csrf: str | None = None
    ends: float | None = None
    must_log_in: bool = True


@router.post(SESSION, summary="Log in", responses=PROBLEMS)
async def login(asked: Login, request: Request, response: Response, at: At) -> Whoami:
    """Sets a cookie, which page scripts can't read. A session ends after half an hour without a request (those with the header
    Medge-Background do not count), and after 12 hours. After 5 wrong passwords of a user, or 20 of an address, each one more
    doubles the time until the next may be tried, to at most 5 minutes."""
    doors = None if at.station is None else at.station.doors
    if doors is None or not await anyio.to_thread.run_sync(doors.locked):
        raise RefusedError("this station has no users, so that nobody logs in; `medge station user add` adds one")
    address = request.client.host if request.client else "none"
    old = cookie_of(request.scope)
    try:
        session = await anyio.to_thread.run_sync(lambda: doors.login(asked.name, asked.password, address, old=old))
    except LoginWaitError as error:
        raise HTTPException(429, str(error), {"Retry-After": str(math.ceil(error.seconds))}) from error
    except LoginError as error:
        raise RefusedError(str(error), status=401, code="wrong_login") from error
    name = cookie_name(request.scope)
    response.set_cookie(
        name, session.secret, path="/", httponly=True, samesite="strict", secure=name.startswith("__Host")
    )
    return _whoami(session)


@router.get(SESSION, summary="Who asks", responses=PROBLEMS)
async def whoami(request: Request) -> Whoami:
    """With status 401 where nobody has logged in."""
    user = who_of(request)
    visitor = request.scope.get(VISITOR)
    if visitor is not None and visitor.session is not None:
        return _whoami(visitor.session)
    return Whoami(name=user.name, role=user.role, must_log_in=visitor is not None)


@router.delete(SESSION, summary="Log out", status_code=204, responses=PROBLEMS)
async def logout(request: Request, at: At) -> Response:
    """The cookie is worth nothing afterwards."""
    visitor = request.scope.get(VISITOR)
    if visitor is not None and visitor.session is not None and at.station is not None:
        await anyio.to_thread.run_sync(at.station.doors.logout, visitor.session)
    elif USER not in request.scope:
        who_of(request)
    response = Response(status_code=204)
    name = cookie_name(request.scope)
    response.delete_cookie(name, path="/", httponly=True, samesite="strict", secure=name.startswith("__Host"))
    return response


def _whoami(session: Session) -> Whoami:
    return Whoami(name=session.user.name, role=session.user.role, csrf=session.csrf, ends=session.ends)
