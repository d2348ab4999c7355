"""The page's files, each under its own address: a request names one of them, and never a place on the disk."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

PAGE = "/page/"
# The page runs its own modules, shows the station's pictures, and speaks to the station alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_FOLDER = Path(__file__).parent
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json"}
LANGUAGES = ("en", "es", "fr", "pt", "sw")


def files() -> dict[str, Path]:
    """{address: file} of everything that the page is made of."""
    found = [path for path in sorted(_FOLDER.rglob("*")) if path.suffix in _KINDS]
    return {f"{PAGE}{path.relative_to(_FOLDER).as_posix()}": path for path in found}


def is_page(path: str) -> bool:
    """Whether an address is the page's, whose policy lets scripts run."""
    return path == "/" or path.startswith(PAGE)


def page_router() -> APIRouter:
    """Routes of the page; it holds no data, so that it is shown before anybody has logged in."""
    router = APIRouter(include_in_schema=False)
    for address, path in files().items():
        router.add_api_route(address, _sender(path), methods=["GET"])
    router.add_api_route("/", _sender(_FOLDER / "index.html"), methods=["GET"])
    return router


def _sender(path: Path) -> Callable[[], Coroutine[Any, Any, Response]]:
    content, kind = path.read_bytes(), f"{_KINDS[path.suffix]}; charset=utf-8"

    async def send() -> Response:
        return Response(content, media_type=kind)

    return send
