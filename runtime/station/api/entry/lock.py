"""The lock on every route: nothing but what `is_open` lets through is answered to somebody who has not logged in."""

from __future__ import annotations

import functools
import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ....errors import StationError, StationFullError
from ...doors.doors import Doors, Visitor
from ...doors.roles import LOCAL
from ..problems import RefusedError, answer, problem_of
from ..who import USER, VISITOR
from .sizes import limited

HEALTH, SESSION = "/healthz", "/v1/session"
CSRF, BACKGROUND = "x-csrf-token", "medge-background"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SMALL = 16 << 10  # bytes of a request by somebody who has not logged in
_AGAIN = 30.0  # seconds after which a streaming answer asks again whether its session goes on
_AT_ONCE = 8  # look-ups
_ANYBODY = Visitor(LOCAL, None)  # while there are no users
_LARGE = "the request is too large for a login"


def is_open(method: str, path: str) -> bool:
    """Whether a request is answered without a login: health, the login itself, and the page, which holds no data."""
    if path == HEALTH or (path == "/" or (path.startswith("/page/") and ".." not in path)):
        return method in ("GET", "HEAD")
    return path == SESSION and method in ("POST", "GET", "DELETE")


def describe(document: dict[str, Any]) -> None:
    """Say in an OpenAPI document how people and programs enter, and that whoever has not is refused with status 401."""
    parts = document.setdefault("components", {})
    parts["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "of a program: `medge station token add`"},
        "session": {"type": "apiKey", "in": "cookie", "name": cookie_name({"scheme": "https"})},
    }
    document["security"] = [{"token": []}, {"session": []}, {}]  # the last while the station has no users
    refused = {"description": "Nobody who has logged in", "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
    }}  # fmt: skip
    for path, methods in document["paths"].items():
        for method, found in methods.items():
            if is_open(method.upper(), path):
                found["security"] = []
            if path != HEALTH:
                found["responses"].setdefault("401", refused)


def cookie_name(scope: Scope) -> str:
    """Of the session's cookie. Under TLS the name is one that browsers take only from this very host, with its attributes."""
    return "__Host-medge" if scope["scheme"] == "https" else "medge"


def cookie_of(scope: Scope) -> str | None:
    """The word in the session's cookie; None where there is none, or several, of which another server of this host set one."""
    name, found = cookie_name(scope), set[str]()
    for line in Headers(scope=scope).getlist("cookie"):
        for part in line.split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                found.add(value)
    return found.pop() if len(found) == 1 else None


class Lock:
    """ASGI middleware, between the guard and the application.

    Without users, whoever can reach the station is an admin: it listens on its own machine only. As soon as there is one, each
    request needs a session's cookie or a token, and what changes something by cookie needs the session's word in a header, too.

    Args:
        app: the application.
        doors: of the station; None where there is no store, and so nobody to log in.
        always: also without users: beyond this machine.
    """

    def __init__(self, app: ASGIApp, doors: Doors | None, *, always: bool = False) -> None:
        self._app, self._doors, self._always = app, doors, always
        self._seats: anyio.CapacityLimiter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            kept = await self._enter(scope)
        except StationError as error:
            refused = error if isinstance(error, RefusedError) else _of_store(error)
            await answer(*problem_of(refused))(scope, receive, send)
            return
        if scope["path"] == SESSION or (kept is None and USER not in scope):
            receive = limited(receive, _SMALL, _LARGE)
        await self._app(scope, receive, send if kept is None else self._watched(send, kept))

    async def _enter(self, scope: Scope) -> Callable[[], Awaitable[bool]] | None:
        """Put who asks into the scope.

        Returns:
            Tells whether they may still be here; None where that does not end.

        Raises:
            RefusedError: they may not come in.
            StationError: the store can't be read.
        """
        method, path, headers = scope["method"], scope["path"], Headers(scope=scope)
        opened = is_open(method, path)
        if path == HEALTH and opened:
            return None
        if method not in _SAFE and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise RefusedError("the station answers no page of another origin", status=403)
        if path == SESSION and int(headers.get("content-length", "0")[:20]) > _SMALL:
            raise RefusedError(_LARGE, status=413)
        token = _token_of(headers)
        look = functools.partial(self._look, token, cookie_of(scope))
        visitor = await look(awake=BACKGROUND not in headers)
        if visitor is _ANYBODY:
            scope[USER] = LOCAL
            return None
        if visitor is None:
            if token is not None:
                raise RefusedError(
                    "the token is none of this station's; an admin can add one", status=401, code="invalid_api_key"
                )
            if not opened:
                raise RefusedError("log in first, or send a token", status=401, code="not_logged_in")
            return None
        begins = path == SESSION and method == "POST"
        if visitor.session is not None and method not in _SAFE and not begins:
            sent = headers.get(CSRF, "").encode("utf-8", "surrogatepass")
            if not hmac.compare_digest(sent, visitor.session.csrf.encode()):
                raise RefusedError(
                    f"the header {CSRF} is missing or of another session; load the page again", status=403, code="csrf"
                )
        scope[USER], scope[VISITOR] = visitor.user, visitor

        async def still() -> bool:
            found = await look(awake=False)
            return found is not None and found.user == visitor.user

        return still

    async def _look(self, token: str | None, cookie: str | None, *, awake: bool) -> Visitor | None:
        """Who comes; in a thread, since the disk may be slow, and not among those of the routes, which may all be at work."""
        doors = self._doors
        if doors is None:
            return None if self._always else _ANYBODY

        def look() -> Visitor | None:
            if not self._always and not doors.locked():
                return _ANYBODY
            return doors.enter(token=token, cookie=cookie, awake=awake)

        if self._seats is None:
            self._seats = anyio.CapacityLimiter(_AT_ONCE)
        return await anyio.to_thread.run_sync(look, limiter=self._seats)

    def _watched(self, send: Send, still: Callable[[], Awaitable[bool]]) -> Send:
        """Ends a streaming answer soon after its session has ended or its user has gone."""
        asked = time.monotonic()

        async def send_while(message: Message) -> None:
            nonlocal asked
            if message.get("more_body") and time.monotonic() - asked > _AGAIN:
                if not await still():
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    raise OSError("the session has ended")  # what a client that went away looks like to the application
                asked = time.monotonic()
            await send(message)

        return send_while


def _token_of(headers: Headers) -> str | None:
    """The token in the header Authorization; "" is nobody's."""
    given = headers.get("authorization")
    if given is None:
        return None
    scheme, _, token = given.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _of_store(error: StationError) -> RefusedError:
    return RefusedError(str(error), status=507 if isinstance(error, StationFullError) else 503)
