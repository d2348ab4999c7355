"""What every request passes before the application sees it: whose name it called, which page sent it, how large it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...page import serve as page
from ..metrics import Metrics
from ..problems import RefusedError, answer, problem_of
from .sizes import limited

LOG = logging.getLogger("medge.station")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
MOST_BYTES = 64 << 20  # of a request
UPLOADS, MOST_UPLOAD = ("POST", "/v1/studies"), 4 << 30  # where files come, which go to the disk as they do
STORED = "/dicomweb/studies"  # and whatever follows: STOW-RS, likewise
POLICY = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store",
}  # fmt: skip


class Guard:
    """ASGI middleware.

    A name that is not the station's own is refused, since a page elsewhere could let its own name point at this machine (DNS
    rebinding). Pages of other origins are refused, and no CORS header is ever sent. Of a request, the log holds the method, the
    route's pattern, the status and the time: a path or a query may name a patient.

    Args:
        app: the application.
        hosts: names, without port, by which the station may be called.
        most_bytes: of a request's body.
        metrics: what is counted.
        uploads: bytes of a body that brings files into the station.
        hsts: tell browsers to come by TLS only, for a year.
    """

    def __init__(
        self, app: ASGIApp, hosts: frozenset[str], most_bytes: int, metrics: Metrics, uploads: int = MOST_UPLOAD, *,
        hsts: bool = False,
    ) -> None:  # fmt: skip
        self._app, self._hosts, self._most, self._metrics = app, hosts, most_bytes, metrics
        self._uploads = uploads
        self._headers = {**HEADERS, "Strict-Transport-Security": "max-age=31536000"} if hsts else HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 499  # where nothing was answered: the client has gone

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                if page.is_page(scope["path"]):
                    headers["Content-Security-Policy"] = page.POLICY
            await send(message)

        try:
            await self._pass(scope, receive, send_guarded, lambda: status != 499)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            seconds = time.perf_counter() - begun
            method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "PUT", "DELETE") else "other"
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            LOG.info("%s %s %d %.0f ms", method, route, status, 1000 * seconds)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, begun: Callable[[], bool]) -> None:
        headers = Headers(scope=scope)
        stored = (scope["method"], scope["path"]) == UPLOADS or scope["path"].startswith(STORED)
        upload = stored and headers.get("content-type", "").startswith("multipart/")
        most = self._uploads if upload else self._most
        problem = self._refusal(headers, most)
        if problem is None:
            try:
                await self._app(scope, limited(receive, most, str(_too_large(most))), send)
                return
            except Exception:
                # Told already, in the form of every problem; the server around would log its words, which may be a patient's.
                if begun():
                    return
                raise
        await answer(*problem_of(problem))(scope, receive, send)

    def _refusal(self, headers: Headers, most: int) -> RefusedError | None:
        host = headers.get("host", "")
        if _name(host) not in self._hosts:
            return RefusedError("the station is not called by this name; use its own address", status=421)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return RefusedError("the station answers no page of another origin", status=403)
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return RefusedError("the header Content-Length is no number")
        return _too_large(most) if int(length[:20]) > most else None


def _too_large(most: int) -> RefusedError:
    return RefusedError(f"the request is larger than {most >> 20} MiB; send fewer or smaller images", status=413)


def _name(host: str) -> str:
    """ "localhost:8642" and "[::1]:8642" without their ports."""
    name, colon, port = host.rpartition(":")
    return name.lower() if colon and (port.isdigit() or not port) and not host.endswith("]") else host.lower()
